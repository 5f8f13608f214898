-- Pauses a queue.
-- KEYS: the queue's mark of being paused.
-- ARGV after the clock: none.
-- Returns: 1 if it was running.
return redis.call('SETNX', KEYS[1], whole(now))
