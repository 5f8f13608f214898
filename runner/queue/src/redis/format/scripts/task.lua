-- One task.
-- KEYS: the task.
-- ARGV after the clock: queue prefix, own prefix, id, how many bytes of long texts or '' for all, messages of how many
-- bytes are not read here.
-- Needs cut.lua and waits.lua. Returns: nothing if there is none; else state, score of its place or '', message or '' if it is not read,
-- its bytes, bytes of its payload, pending_since, result, its bytes, what it waits for ('' for what is missing).
local queue, own, id = ARGV[3], ARGV[4], ARGV[5]
local most, limit = tonumber(ARGV[6]), tonumber(ARGV[7])
local bytes = field_length(KEYS[1], 'msg')
-- A key that is not a hash is not a task.
if bytes < 0 then return {} end
if bytes == 0 and redis.call('HEXISTS', KEYS[1], 'msg') == 0 then return {} end
local held = redis.call('HMGET', KEYS[1], 'state', 'pending_since')
local places = {
  active = 'lease', scheduled = 'scheduled', retry = 'retry', archived = 'archived', completed = 'completed',
}
local place = places[held[1]]
local score = place and look(false, 'ZSCORE', queue .. place, id)
local note = held[1] == 'scheduled' and (look(false, 'HGET', own .. 'waiting', id) or limit_of(own, id, true))
local msg, payload, result, length = '', 0, '', redis.call('HSTRLEN', KEYS[1], 'result')
if not most then
  msg, result = redis.call('HGET', KEYS[1], 'msg'), redis.call('HGET', KEYS[1], 'result') or ''
else
  if bytes <= limit then msg, payload = cut(redis.call('HGET', KEYS[1], 'msg'), most) end
  -- Also of a task whose message is too long: it is short for itself.
  result = head(KEYS[1], 'result', most, limit)
end
return {held[1] or '', score or '', msg, bytes, payload, held[2] or '', result, length, note or ''}
