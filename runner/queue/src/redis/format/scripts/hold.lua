-- Records which schedules an instance has.
-- KEYS: the instances by their expiry, the schedules of this one, the sets of the sources (one key for each).
-- ARGV after the clock: instance, time to live in s, the longest time to live in s; then for each schedule: number of
-- its source among the keys (from 3), id, revision.
-- Returns: 1 if the instance was known, 0 if it had expired: then all its schedules must be sent.
local ends = tonumber(keep('ZSCORE', KEYS[1], ARGV[3]) or nil)
-- An expiry further ahead than any can be was written with a wrong clock.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now))
redis.call('ZREMRANGEBYSCORE', KEYS[1], whole(now + tonumber(ARGV[5]) + 1), '+inf')
local known = ends and ends > now
if not known then redis.call('DEL', KEYS[2]) end
redis.call('ZADD', KEYS[1], whole(now + tonumber(ARGV[4])), ARGV[3])
local held, sources = {}, {}
for i = 6, #ARGV, 3 do
  local source = tonumber(ARGV[i])
  held[#held + 1], held[#held + 2] = ARGV[i + 1], ARGV[i + 2]
  sources[source] = sources[source] or {}
  table.insert(sources[source], ARGV[i + 1])
end
spread('HSET', KEYS[2], held)
for source, ids in pairs(sources) do spread('SADD', KEYS[source], ids) end
-- The schedules of an instance that never comes back expire.
redis.call('EXPIRE', KEYS[2], 86400)
return known and 1 or 0
