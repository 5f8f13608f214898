-- Deletes tasks of a queue, and once there are none, everything else of it except its name.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix, '1' to delete tasks at all, how many at most.
-- Returns: 'active' or 'full' and how many tasks prevent it; 'more' or 'gone' and how many were deleted.
-- An active task whose lease ran out more than five seconds ago is deleted with the others.
-- While there are more the queue is paused, so that tasks about to be deleted are not claimed.
local queue, own, most = ARGV[3], ARGV[4], tonumber(ARGV[6])
local active = keep('LLEN', queue .. 'active')
local held = active
if active > 0 then held = active - keep('ZCOUNT', queue .. 'lease', '-inf', whole(now - 5)) end
if held > 0 then return {'active', held} end

if ARGV[5] ~= '1' then
  local size = keep('LLEN', KEYS[1]) + active + keep('HLEN', own .. 'followers')
  for _, set in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
    size = size + keep('ZCARD', queue .. set)
  end
  for _, group in ipairs(keep('SMEMBERS', queue .. 'groups')) do
    size = size + keep('ZCARD', queue .. 'g:' .. group)
  end
  for _, set in ipairs(keep('ZRANGE', queue .. 'aggregation_sets', 0, -1)) do
    if string.sub(set, 1, #queue + 2) == queue .. 'g:' then size = size + keep('ZCARD', set) end
  end
  if size > 0 then return {'full', size} end
end

local deleted = 0
if active > 0 then
  local ids = keep('LRANGE', queue .. 'active', -most, -1)
  keep('LTRIM', queue .. 'active', 0, -(#ids + 1))
  spread('ZREM', queue .. 'lease', ids)
  leave_places(own, ids)
  forget(queue, own, ids)
  deleted = #ids
end
for _, state in ipairs({'pending', 'scheduled', 'retry', 'archived', 'completed', 'aggregating'}) do
  if deleted < most then
    local ids = take(queue, state, most - deleted)
    forget(queue, own, ids)
    deleted = deleted + #ids
  end
end
-- Tasks that are being aggregated are in staged sets, listed by key.
for _, set in ipairs(keep('ZRANGE', queue .. 'aggregation_sets', 0, most - 1)) do
  if deleted == most then break end
  if string.sub(set, 1, #queue + 2) == queue .. 'g:' then
    local ids = keep('ZRANGE', set, 0, most - deleted - 1)
    keep('ZREMRANGEBYRANK', set, 0, #ids - 1)
    forget(queue, own, ids)
    deleted = deleted + #ids
  end
  if redis.call('EXISTS', set) == 0 or string.sub(set, 1, #queue + 2) ~= queue .. 'g:' then
    keep('ZREM', queue .. 'aggregation_sets', set)
  end
end
if deleted == most or redis.call('EXISTS', queue .. 'groups', queue .. 'aggregation_sets') > 0 then
  redis.call('SET', queue .. 'paused', whole(now), 'NX')
  return {'more', deleted}
end

local gone = {own .. 'waiting', own .. 'run', own .. 'claims', own .. 'ghosts', own .. 'archive', own .. 'trimmed', own .. 'suspects', own .. 'followers'}
for _, gate in ipairs(keep('HKEYS', own .. 'gates')) do
  for _, part in ipairs({'holders:', 'waiters:', 'tat:'}) do gone[#gone + 1] = own .. part .. gate end
end
for _, part in ipairs({'gates', 'gated', 'look', 'turn'}) do gone[#gone + 1] = own .. part end
for _, part in ipairs({'active', 'lease', 'paused', 'processed', 'failed'}) do
  gone[#gone + 1] = queue .. part
end
-- Counters of days expire after 90; another program's clock may be ahead of our clock.
for back = -1, 91 do
  local day = day_of(now - back * 86400)
  gone[#gone + 1] = queue .. 'processed:' .. day
  gone[#gone + 1] = queue .. 'failed:' .. day
end
wipe(gone)
return {'gone', deleted}
