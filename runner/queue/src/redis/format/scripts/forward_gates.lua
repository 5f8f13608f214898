-- Lets tasks go on that wait for limits, at the gates whose time to look has come.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix, how many gates at most.
-- Returns: how many gates there were; when to look next in ms, or ''.
local queue, own, most = ARGV[3], ARGV[4], tonumber(ARGV[5])
local count = look_at_due(queue, own, most)
return {count, keep('ZRANGE', own .. 'look', 0, 0, 'WITHSCORES')[2] or ''}
