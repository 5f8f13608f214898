-- Deletes tasks with their notes, claims and uniqueness locks.
-- Needs clock.lua and claims.lua. Gives: release(queue, id) and forget(queue, own, ids).

-- Reads a protobuf varint. Returns the number and where it ends; nothing if the text ends first.
local function varint(text, at)
  local number, factor = 0, 1
  for place = at, at + 9 do
    local byte = string.byte(text, place)
    if not byte then return nil end
    number = number + byte % 128 * factor
    if byte < 128 then return number, place + 1 end
    factor = factor * 128
  end
end

-- Field 10 of a message; '' if it has none or is damaged. Only headers may come before it more than once.
local function lock_in(msg)
  local at = 1
  for _ = 1, 100 do
    local tag, value
    tag, at = varint(msg, at)
    if not tag then return '' end
    value, at = varint(msg, at)
    if not value then return '' end
    if tag == 82 then return string.sub(msg, at, at + value - 1) end
    if tag % 8 == 2 then
      at = at + value
    elseif tag % 8 ~= 0 then
      return ''
    end
  end
  return ''
end

-- Releases a task's lock. Returns whether the key holds something that is not a task and not ours to delete. The hash
-- names the lock, except for a task that was in a group: there only the message does.
local function release(queue, id)
  local key = queue .. 't:' .. id
  local held = of_task('HMGET', key, 'unique_key', 'group')
  if not held then return true end
  local lock = held[1] or held[2] and lock_in(redis.call('HGET', key, 'msg') or '') or ''
  -- Messages are untrusted: one must not name a key of another kind.
  if string.sub(lock, 1, #queue + 7) == queue .. 'unique:' and try('GET', lock) == id then
    redis.call('DEL', lock)
  end
end

-- Deletes tasks that are on no list any more.
local function forget(queue, own, ids)
  local gone = {}
  for _, id in ipairs(ids) do
    if not release(queue, id) then gone[#gone + 1] = queue .. 't:' .. id end
  end
  wipe(gone)
  disclaim(own, ids)
  spread('HDEL', own .. 'waiting', ids)
end
