-- One task.
-- KEYS: the task.
-- ARGV after the clock: queue prefix, own prefix, id.
-- Returns: nothing if there is none; else state, score of its place or '', message, pending_since, result,
-- what it waits for ('' for what is missing).
local queue, own, id = ARGV[3], ARGV[4], ARGV[5]
local held = of_task('HMGET', KEYS[1], 'state', 'msg', 'pending_since', 'result', 'group')
if not held or not held[2] then return {} end
local places = {
  active = 'lease', scheduled = 'scheduled', retry = 'retry', archived = 'archived', completed = 'completed',
}
local place = places[held[1]]
local score = place and look(false, 'ZSCORE', queue .. place, id)
local note = held[1] == 'scheduled' and look(false, 'HGET', own .. 'waiting', id)
return {held[1] or '', score or '', held[2], held[3] or '', held[4] or '', note or ''}
