-- Pauses a schedule, or resumes it from the end of its pause.
-- KEYS: the cursors, the record of all decisions, the record of this schedule's.
-- ARGV after the clock: id, '' to resume or the text of the pause; to resume also: the cursor from which was counted or
-- '', when the pause ended in seconds or '', who ends it, how many occurrences fell into it, the newest one, the text
-- of the decision, how many decisions to keep in all, how many of this schedule, seconds to keep its own record.
-- Returns: 'paused'; 'running' if it was not paused; 'moved'; 'done', and the decision in JSON if there is one.
local id = ARGV[3]
if ARGV[4] ~= '' then
  keep('HSET', KEYS[1], 'z:' .. id, ARGV[4])
  return {'paused'}
end
if keep('HEXISTS', KEYS[1], 'z:' .. id) == 0 then return {'running'} end
local cursor = stored(redis.call('HGET', KEYS[1], 'c:' .. id))
if ARGV[5] ~= '' and cursor ~= tonumber(ARGV[5]) then return {'moved'} end
redis.call('HDEL', KEYS[1], 'z:' .. id)
local stop = math.min(tonumber(ARGV[6]) or now, now)
if cursor and cursor < stop then redis.call('HSET', KEYS[1], 'c:' .. id, whole(stop)) end
local count = tonumber(ARGV[8])
if count == 0 then return {'done'} end
local text = decided(id, ARGV[7], ARGV[9], 'paused', ARGV[10], nil, count)
record(KEYS[2], KEYS[3], {text}, ARGV[11], ARGV[12], ARGV[13])
return {'done', text}
