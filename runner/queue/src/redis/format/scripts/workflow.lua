-- A workflow: its hash, and in the same slot its steps, their payloads and their ends, by number.
-- An end is a letter, d done or f failed, and the result or error.
-- Needs clock.lua and guard.lua. Gives: workflow_head(key), keep_keys(keys, seconds) and changed(key, ...).

local function workflow_head(key)
  return look({}, 'HMGET', key, 'plan', 'state', 'sent', 'epoch', 'called', 'done', 'failed', 'error', 'created', 'changed')
end

local function keep_keys(seconds)
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, seconds) end
end

-- For a key that is known to be a hash.
local function changed(key, ...)
  redis.call('HSET', key, 'changed', whole(millis), ...)
end
