-- Pauses a schedule, or replaces its pause.
-- KEYS: the cursors.
-- ARGV after the clock: id, the text of the pause.
-- Returns: 1.
local id = ARGV[3]
keep('HSET', KEYS[1], 'z:' .. id, ARGV[4])
return 1
