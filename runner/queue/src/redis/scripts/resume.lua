-- Stops a schedule, or lets it go on from the present.
-- KEYS: the cursors.
-- ARGV after the clock: id, '' to resume or who stops it and when.
-- Returns: whether it was stopped before.
local id = ARGV[3]
local stopped = keep('HEXISTS', KEYS[1], 'z:' .. id)
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'z:' .. id, ARGV[4])
elseif stopped == 1 then
  redis.call('HDEL', KEYS[1], 'z:' .. id)
  local cursor = stored(redis.call('HGET', KEYS[1], 'c:' .. id))
  if cursor and cursor < now then redis.call('HSET', KEYS[1], 'c:' .. id, whole(now)) end
end
return stopped
