-- Moves the first tasks of a ripe group into a staged set.
-- KEYS: the group.
-- ARGV after the clock: queue prefix, group, id of the set, grace in s, longest delay in s (0: none), size that is
-- ripe and taken at most, seconds until the set may be reclaimed.
-- Returns: nothing, or the instant until which the caller holds the set.
-- The tasks themselves are not read, and no list is transferred: any size costs about the same.
local queue, group, set = ARGV[3], ARGV[4], KEYS[1] .. ':' .. ARGV[5]
local grace, delay, most = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local size = keep('ZCARD', KEYS[1])
if size == 0 then
  -- Another program may have left the name behind.
  keep('SREM', queue .. 'groups', group)
  return {}
end

local function score(rank)
  return tonumber(redis.call('ZRANGE', KEYS[1], rank, rank, 'WITHSCORES')[2])
end
local ripe = size >= most or (delay > 0 and score(0) <= now - delay) or score(-1) <= now - grace
if not ripe then return {} end

-- First a removal, so that a full server of an old version lets the rest of the script pass.
redis.call('DEL', set)
if size <= most then
  redis.call('RENAME', KEYS[1], set)
  keep('SREM', queue .. 'groups', group)
else
  redis.call('ZRANGESTORE', set, KEYS[1], 0, most - 1)
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, most - 1)
end
local deadline = whole(now + tonumber(ARGV[9]))
keep('ZADD', queue .. 'aggregation_sets', deadline, set)
return {deadline}
