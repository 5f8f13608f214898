-- Enqueues what is due of one schedule, records the decisions, moves the cursor: all or nothing.
-- KEYS: the cursors, the record of all decisions, the record of this schedule's.
-- ARGV after the clock: schedule, cursor before, cursor after, 'skip' or 'allow' overlaps, instance,
-- missed count, newest missed instant, oldest missed instant, '1' if older ones were not counted,
-- how many decisions to keep in all, how many of this schedule, seconds to keep its own record;
-- then for each fire: queue prefix, nominal instant, fire instant in ms, '1' if it is late, task id, message,
-- lock key or '', lock ttl in ms, when, group.
-- Returns: 'done' and a decision in JSON for each fire; 'moved' and the cursor; 'early' and the wait in ms;
-- 'unknown'; 'paused'.
local id, from, to, instance = ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local width, first = 10, 15
local cursor, paused = unpack(redis.call('HMGET', KEYS[1], 'c:' .. id, 'z:' .. id))
if not cursor then return {'unknown'} end
if cursor ~= from then return {'moved', cursor} end
if paused then return {'paused'} end
for i = first, #ARGV, width do
  -- Clocks of instances differ from the server's by half a round trip.
  local ahead = tonumber(ARGV[i + 2]) - millis
  if ahead > 50 then return {'early', whole(ahead)} end
end

local records, reply = {}, {'done'}
local function decide(nominal, kind, reason, task, count)
  local text = cjson.encode({
    s = id, n = tonumber(nominal), k = kind, r = reason, t = task, c = count, d = stamp, i = instance,
  })
  records[#records + 1] = text
  return text
end

if tonumber(ARGV[8]) > 0 then
  local reason = 'too late, from ' .. ARGV[10]
  if ARGV[11] == '1' then reason = reason .. '; older ones were not counted' end
  decide(ARGV[9], 'missed', reason, nil, tonumber(ARGV[8]))
end

-- The previous task stands in the way while it waits, runs or is due later; a failed one does not.
local function busy(key)
  local state = key and redis.call('HGET', key, 'state')
  if state == 'pending' or state == 'active' or state == 'scheduled' then return state end
end

local previous = redis.call('HMGET', KEYS[1], 'p:' .. id, 't:' .. id)
for i = first, #ARGV, width do
  local queue, nominal, task, lock = ARGV[i], ARGV[i + 1], ARGV[i + 4], ARGV[i + 6]
  local state = ARGV[6] == 'skip' and busy(previous[1])
  if state then
    reply[#reply + 1] =
      decide(nominal, 'skipped', 'overlap: previous task ' .. previous[2] .. ' is ' .. state, previous[2], 1)
  else
    local lists = {pending = {}, scheduled = {}}
    local code = put(queue, lists, task, ARGV[i + 5], lock, ARGV[i + 7], ARGV[i + 8], ARGV[i + 9])
    flush(queue, lists)
    if code == -1 then
      local holder = redis.call('GET', lock)
      reply[#reply + 1] =
        decide(nominal, 'skipped', 'unique: task ' .. holder .. ' holds the lock', holder, 1)
    else
      -- A task of this id is this occurrence, enqueued before.
      local reason = ARGV[i + 3] == '1' and 'catch_up' or 'on_time'
      reply[#reply + 1] = decide(nominal, 'fired', reason, task, 1)
      previous = {queue .. 't:' .. task, task}
      redis.call('HSET', KEYS[1], 'p:' .. id, previous[1], 't:' .. id, task, 'l:' .. id, nominal)
    end
  end
end
redis.call('HSET', KEYS[1], 'c:' .. id, to)
for _, text in ipairs(records) do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[12], '*', 'd', text)
  redis.call('LPUSH', KEYS[3], text)
end
if #records > 0 then
  redis.call('LTRIM', KEYS[3], 0, tonumber(ARGV[13]) - 1)
  redis.call('EXPIRE', KEYS[3], ARGV[14])
end
return reply
