-- Resumes a schedule from the end of its pause.
-- KEYS: the cursors, the record of all decisions, the record of this schedule's.
-- ARGV after the clock: id, the cursor that was counted from or '', when the pause ended in seconds or '', who ends it,
-- how many occurrences fell into it, the newest one, the text of the decision, how many decisions to keep in all, how
-- many of this schedule, seconds to keep its own record.
-- Returns: 'running' if it was not paused; 'moved'; 'done', and the decision in JSON if there is one.
local id = ARGV[3]
if keep('HEXISTS', KEYS[1], 'z:' .. id) == 0 then return {'running'} end
local cursor = stored(redis.call('HGET', KEYS[1], 'c:' .. id))
if ARGV[4] ~= '' and cursor ~= tonumber(ARGV[4]) then return {'moved'} end
redis.call('HDEL', KEYS[1], 'z:' .. id)
local stop = math.min(tonumber(ARGV[5]) or now, now)
if cursor and cursor < stop then redis.call('HSET', KEYS[1], 'c:' .. id, whole(stop)) end
local count = tonumber(ARGV[7])
if count == 0 then return {'done'} end
local text = decided(id, ARGV[6], ARGV[8], 'paused', ARGV[9], nil, count)
record(KEYS[2], KEYS[3], {text}, ARGV[10], ARGV[11], ARGV[12])
return {'done', text}
