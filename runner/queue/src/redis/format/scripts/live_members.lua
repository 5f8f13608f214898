-- Unexpired members of a sorted set; expired ones are removed.
-- KEYS: the set.
-- ARGV after the clock: how many at most.
-- Returns: the members.
keep('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now - 1))
return redis.call('ZRANGE', KEYS[1], whole(now), '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3])
