-- Finds active tasks whose lease ran out, and repairs inconsistencies on the way.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, grace in ms, the same for a lease that none of our workers took, how many at most,
-- own prefix, the attempt to record of a task that is archived, the longest lease in ms.
-- Returns: the time in ms; the repairs, each with its id; then for each task: id, message, run, how many crashes were
-- counted before, 1 if the run was alone in its process, who claimed it, second at which its lease ended.
-- Ids dropped by claims since the last call are reported as ghosts without an id. An id without a task is dropped. An
-- active id without a lease gets one that ends now, so that the grace passes before it is recovered; only the 1000 oldest
-- are checked, and only if the numbers differ.
local queue = ARGV[3]
local lease = queue .. 'lease'
local cutoff = whole((millis - tonumber(ARGV[4])) / 1000)
local foreign = math.floor((millis - tonumber(ARGV[5])) / 1000)

-- A lease longer than any can be was written with a wrong clock. A live worker extends its lease anyway; that of a dead
-- worker must not last until then.
local longest = whole((millis + tonumber(ARGV[9])) / 1000)
for _, id in ipairs(keep('ZRANGE', lease, '(' .. longest, '+inf', 'BYSCORE', 'LIMIT', 0, 1000)) do
  redis.call('ZADD', lease, longest, id)
end

local budget, repaired = {left = 100000}, {}

-- Ids that cannot be repaired now are moved out of the way: they must not block the others.
local function right(id, ghost)
  local done = repair_task(queue, ARGV[7], id, budget, ARGV[8])
  if done == nil then
    keep('LREM', KEYS[1], 0, id)
    keep('ZREM', lease, id)
    if ghost then redis.call('DEL', queue .. 't:' .. id) end
    disclaim(ARGV[7], {id})
    done = ghost and 'ghost' or 'misplaced'
  end
  if done ~= '' then
    repaired[#repaired + 1] = done
    repaired[#repaired + 1] = id
  end
end

if keep('LLEN', KEYS[1]) ~= keep('ZCARD', lease) then
  for _, id in ipairs(keep('LRANGE', KEYS[1], -1000, -1)) do
    if not keep('ZSCORE', lease, id) then
      if of_task('HGET', queue .. 't:' .. id, 'state') == 'active' then
        keep('ZADD', lease, whole(now), id)
        repaired[#repaired + 1] = 'unleased'
        repaired[#repaired + 1] = id
      else
        right(id, holds(queue .. 't:' .. id) == false)
      end
    end
  end
end

for _ = 1, math.min(taken_count(ARGV[7] .. 'ghosts'), 1000) do
  repaired[#repaired + 1] = 'ghost'
  repaired[#repaired + 1] = ''
end
local displaced = 'runner:displaced:' .. string.match(queue, '{[^}]+}')
if redis.call('EXISTS', displaced) == 1 then
  for _, key in ipairs(look({}, 'SMEMBERS', displaced)) do
    repaired[#repaired + 1] = 'displaced'
    repaired[#repaired + 1] = key
  end
  redis.call('DEL', displaced)
end
local reply = {whole(millis), repaired}
local found = keep('ZRANGE', lease, '-inf', cutoff, 'BYSCORE', 'LIMIT', 0, ARGV[6], 'WITHSCORES')
if #found >= 100 then
  -- Prefer those at the end of the active list, if their leases ran out too: they are trimmed as a whole, while each one
  -- from the middle of a long list has to be searched.
  local tail = keep('LRANGE', KEYS[1], -#found / 2, -1)
  local scores = #tail > 0 and keep('ZMSCORE', lease, unpack(tail)) or {}
  local last = {}
  for i = #tail, 1, -1 do
    if not scores[i] or tonumber(scores[i]) > tonumber(cutoff) then break end
    last[#last + 1] = tail[i]
    last[#last + 1] = scores[i]
  end
  if #last > 0 then found = last end
end
local ids, ends = {}, {}
for i = 1, #found, 2 do ids[#ids + 1], ends[#ends + 1] = found[i], tonumber(found[i + 1]) end
local claims = claimed(ARGV[7], ids)
for i, id in ipairs(ids) do
  local held = of_task('HMGET', queue .. 't:' .. id, 'msg', 'state', 'lost', 'alone')
  if not held or not held[1] or held[2] ~= 'active' then
    right(id, held and not held[1])
  elseif claims[i] or ends[i] <= foreign then
    local at = #reply
    local run, by = string.match(claims[i] or '0', '^(%d+) ?(.*)$')
    if not stored(run) then
      -- Not our claim: it is removed, and the task is recovered as one without.
      disclaim(ARGV[7], {id})
      run, by = '0', ''
    end
    reply[at + 1], reply[at + 2], reply[at + 3] = id, held[1], run
    reply[at + 4], reply[at + 5], reply[at + 6] = held[3] or '0', held[4] == run and 1 or 0, by
    reply[at + 7] = whole(ends[i])
  end
end
return reply
