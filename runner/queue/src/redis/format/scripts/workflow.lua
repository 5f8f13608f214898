-- A workflow: its hash, and in the same slot its steps, their payloads and their ends, by number.
-- An end is a letter, d done, o done with a result that was left out, or f failed, and the result or error.
-- Needs clock.lua and guard.lua. Gives: workflow_head(key), kept_bytes(key), keep_keys(seconds, state) and changed(key, ...).

local function workflow_head(key)
  return look({}, 'HMGET', key, 'plan', 'state', 'sent', 'epoch', 'called', 'done', 'failed', 'error', 'created', 'changed')
end

-- How many bytes of results are kept of it; nothing for one of an earlier version, of which all are kept.
local function kept_bytes(key)
  local kept = look(false, 'HGET', key, 'kept')
  return kept and math.max(stored(kept) or 0, 0)
end

-- One that runs or is being cancelled is kept, however long that takes.
local function keep_keys(seconds, state)
  local lasts = state == 'running' or state == 'cancelling'
  for _, key in ipairs(KEYS) do
    if lasts then redis.call('PERSIST', key) else redis.call('EXPIRE', key, seconds) end
  end
end

-- For a key that is known to be a hash.
local function changed(key, ...)
  redis.call('HSET', key, 'changed', whole(millis), ...)
end
