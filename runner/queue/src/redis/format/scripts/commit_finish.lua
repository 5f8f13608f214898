-- Last of three steps of a commit in a cluster: records the decisions and moves the cursor, once.
-- KEYS: the cursors, the record of all decisions, the record of this schedule's.
-- ARGV after the clock: schedule, the intent, cursor after, instance, missed count, newest missed instant, oldest
-- missed instant, what else the reason says, how many decisions to keep in all, how many of this schedule,
-- seconds to keep its own record, nominal instant of the last fire or '', its task's id, its task's key,
-- from when on nothing is missed if something is here, else ''; then the decisions in JSON.
-- Returns: 1, then the decision about missed occurrences, if there were any; 0 if another instance did it.
-- An invalid cursor is left to the next registration.
-- A schedule that was changed or resumed meanwhile may have a later cursor: it is not moved back.
local id, to = ARGV[3], ARGV[5]
if keep('HGET', KEYS[1], 'i:' .. id) ~= ARGV[4] then return {0} end
redis.call('HDEL', KEYS[1], 'i:' .. id)
local cursor = stored(redis.call('HGET', KEYS[1], 'c:' .. id))
if cursor and cursor < tonumber(to) then redis.call('HSET', KEYS[1], 'c:' .. id, to) end
if (ARGV[17] or '') ~= '' then redis.call('HSET', KEYS[1], 'u:' .. id, ARGV[17]) end
if ARGV[14] ~= '' then
  redis.call('HSET', KEYS[1], 'l:' .. id, ARGV[14], 't:' .. id, ARGV[15], 'p:' .. id, ARGV[16])
end
local texts = {}
if tonumber(ARGV[7]) > 0 then texts[1] = missed(id, ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]) end
for i = 18, #ARGV do texts[#texts + 1] = ARGV[i] end
record(KEYS[2], KEYS[3], texts, ARGV[11], ARGV[12], ARGV[13])
if tonumber(ARGV[7]) > 0 then return {1, texts[1]} end
return {1}
