-- Enqueues the due occurrences of one schedule, records the decisions, moves the cursor: all or nothing.
-- KEYS: the cursors, the record of all decisions, the record of this schedule's.
-- ARGV after the clock: schedule, cursor before, cursor after, the overlap policy (see decide.lua), instance,
-- missed count, newest missed instant, oldest missed instant, what else the reason says,
-- how many decisions to keep in all, how many of this schedule, seconds to keep its own record, from when on
-- nothing is missed if something is here, else '';
-- then for each fire: queue prefix, fire instant in ms, nominal instant, '1' if it is late, task id, message,
-- lock key or '', lock ttl in ms, when, group, headers to keep beside the message or ''.
-- Returns: 'done' and the decisions in JSON, first the one about missed occurrences, then one for each fire; 'moved' and
-- the cursor; 'early' and the wait in ms; 'unknown', also if it was withdrawn; 'paused'; 'ahead' and the spans if an
-- occurrence was decided while the clock was ahead.
local id, from, to, instance = ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local width, first = 11, 16
local cursor, paused, ahead, gone = unpack(keep('HMGET', KEYS[1], 'c:' .. id, 'z:' .. id, 'a:' .. id, 'w:' .. id))
-- An invalid cursor counts as unknown; the next registration replaces it.
if not stored(cursor) or gone then return {'unknown'} end
if cursor ~= from then return {'moved', cursor} end
if paused then return {'paused'} end
for i = first, #ARGV, width do
  if ahead and inside(ahead, tonumber(ARGV[i + 2])) then return {'ahead', ahead} end
  -- Clocks of instances differ from the server's by half a round trip.
  local ahead = tonumber(ARGV[i + 1]) - millis
  if ahead > 50 then return {'early', whole(ahead)} end
end

local records, reply = {}, {'done'}
if tonumber(ARGV[8]) > 0 then
  records[1] = missed(id, instance, ARGV[8], ARGV[9], ARGV[10], ARGV[11])
  reply[2] = records[1]
end

local previous = redis.call('HMGET', KEYS[1], 'p:' .. id, 't:' .. id)
-- The last manual run.
local manual = redis.call('HMGET', KEYS[1], 'mp:' .. id, 'mt:' .. id)
for i = first, #ARGV, width do
  local queue, nominal, task = ARGV[i], ARGV[i + 2], ARGV[i + 4]
  local what, by, text, fired
  if ARGV[6] ~= 'allow' then
    what, by = busy(previous[1], previous[2], queue, ARGV[6]), previous[2]
    if not what then what, by = busy(manual[1], manual[2], queue, ARGV[6]), manual[2] end
  end
  if what then
    text = overlaps(id, instance, nominal, by, what, ARGV[6])
  else
    local took
    text, fired, took = enqueue(id, instance, queue, {unpack(ARGV, i + 2, i + 10)})
    task = took or task
  end
  if fired then
    previous = {queue .. 't:' .. task, task}
    redis.call('HSET', KEYS[1], 'p:' .. id, previous[1], 't:' .. id, task, 'l:' .. id, nominal)
  end
  records[#records + 1] = text
  reply[#reply + 1] = text
end
redis.call('HSET', KEYS[1], 'c:' .. id, to)
if ARGV[15] ~= '' then redis.call('HSET', KEYS[1], 'u:' .. id, ARGV[15]) end
record(KEYS[2], KEYS[3], records, ARGV[12], ARGV[13], ARGV[14])
return reply
