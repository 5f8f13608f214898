-- Performs an operator's action on the first tasks of a list.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix, state, 'run', 'archive' or 'delete', how many at most, group or ''
-- (all), '' or the instant at which pending tasks (nanoseconds) or archived ones (seconds) must have been there.
-- Returns: how many tasks were changed, how many remain in the list (aggregating: how many groups remain).
local queue, own, state, action, bound = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[9]
local taken, left = take(queue, state, tonumber(ARGV[7]), ARGV[8] ~= '' and ARGV[8], bound ~= '' and bound)
local ids = {}
for _, id in ipairs(taken) do
  -- An id without a task is dropped, and one whose task is in another state.
  if of_task('HGET', queue .. 't:' .. id, 'state') == state then ids[#ids + 1] = id end
end
change(queue, own, state, action, ids, tonumber(ARGV[7]))
return {#ids, left}
