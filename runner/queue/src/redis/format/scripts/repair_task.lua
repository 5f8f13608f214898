-- Repairs one task whose lists, state and lease contradict each other.
-- Needs clock.lua, claims.lua and notes.lua. Gives: holds(key), listed(key, id, budget), grouped(queue, group, id) and
-- repair_task(queue, own, id, budget, reason).
-- budget.left: list elements that this call may still examine, because lists are searched from end to end.

-- Whether a key holds a task; nil if it holds something else. Any other error is raised: while a slot of a cluster migrates
-- key by key, this server does not know what the other one has.
local function holds(key)
  local answer = of_task('HEXISTS', key, 'msg')
  return answer and answer == 1
end

-- How long a completed task is kept that was on no list, so that its expiry is unknown.
local KEPT = 3600

-- Whether an id is in a list; nil if searching would take too long.
local function listed(key, id, budget)
  local length = keep('LLEN', key)
  if length > budget.left then return nil end
  budget.left = budget.left - length
  return keep('LPOS', key, id) ~= false
end

-- Whether an id is in its group or in a staged set; and whether the group's name was missing, which is restored here: others
-- delete it while they move tasks there, and the group would not be found then.
local function grouped(queue, group, id)
  if keep('ZSCORE', queue .. 'g:' .. group, id) then
    if keep('SISMEMBER', queue .. 'groups', group) == 1 then return true, false end
    keep('SADD', queue .. 'groups', group)
    return true, true
  end
  -- Further sets are not searched: a task that may be in one of them is not changed.
  if keep('ZCARD', queue .. 'aggregation_sets') > 100 then return true end
  for _, set in ipairs(keep('ZRANGE', queue .. 'aggregation_sets', 0, 99)) do
    if string.sub(set, 1, #queue + 2) == queue .. 'g:' and look(false, 'ZSCORE', set, id) then return true end
  end
  return false
end

local function leave(queue, place, id, group)
  if place == 'active' or place == 'pending' then
    keep('LREM', queue .. place, 0, id)
  elseif place == 'aggregating' then
    keep('ZREM', queue .. 'g:' .. group, id)
  else
    keep('ZREM', queue .. place, id)
  end
end

-- A task whose time is unknown is due now.
local function enter(queue, place, id, group)
  local key = queue .. 't:' .. id
  if place == 'pending' then
    redis.call('HSETNX', key, 'pending_since', stamp)
    keep('LPUSH', queue .. place, id)
  elseif place == 'active' then
    keep('LPUSH', queue .. place, id)
  elseif place == 'aggregating' then
    keep('ZADD', queue .. 'g:' .. group, whole(now), id)
    keep('SADD', queue .. 'groups', group)
  else
    keep('ZADD', queue .. place, whole(place == 'completed' and now + KEPT or now), id)
  end
end

-- Returns what was done: 'ghost' an id without a task, or the rest of one, was dropped; 'orphan' it was on no list and was
-- put where its state says; 'unleased' it was active without a lease and got one that ends now; 'misplaced' state, list,
-- lease and names agree again; 'quarantined' its place cannot be determined, it was archived with the given reason; '' it
-- was consistent; nil it could not be checked now.
local function repair_task(queue, own, id, budget, reason)
  local key, lease = queue .. 't:' .. id, queue .. 'lease'
  local exists = holds(key)
  local foreign = exists == nil
  local state, group
  if not foreign then
    local held = redis.call('HMGET', key, 'state', 'group')
    state, group = held[1] or '', held[2] or ''
  end
  local active, pending = listed(queue .. 'active', id, budget), listed(queue .. 'pending', id, budget)
  if active == nil or pending == nil then return nil end
  local places = {}
  if active then places[1] = 'active' end
  if pending then places[#places + 1] = 'pending' end
  for _, set in ipairs({'retry', 'scheduled', 'archived', 'completed'}) do
    if keep('ZSCORE', queue .. set, id) then places[#places + 1] = set end
  end
  local leased = keep('ZSCORE', lease, id)

  if not exists then
    -- It ended between the check and this.
    if #places == 0 and not leased and redis.call('EXISTS', key) == 0 then return '' end
    for _, place in ipairs(places) do leave(queue, place, id) end
    keep('ZREM', lease, id)
    -- The key holds something that is not a task; it is not ours to delete.
    if not foreign then redis.call('DEL', key) end
    keep('HDEL', own .. 'waiting', id)
    disclaim(own, {id})
    return 'ghost'
  end

  local done, home = '', nil
  if group ~= '' then
    local there, nameless = grouped(queue, group, id)
    if there then places[#places + 1] = 'aggregating' end
    if nameless then done = 'misplaced' end
  end
  for _, place in ipairs(places) do
    if place == state then home = place end
  end
  if #places == 0 then
    local known = {pending = 1, active = 1, retry = 1, scheduled = 1, archived = 1, completed = 1}
    home, done = state, 'orphan'
    if state == 'aggregating' then
      if group == '' then home = 'pending' end
    elseif not known[state] then
      home, done = 'archived', 'quarantined'
      remember(key, reason)
    end
    enter(queue, home, id, group)
  elseif #places > 1 or not home then
    home, done = home or places[1], 'misplaced'
    for _, place in ipairs(places) do
      if place ~= home then leave(queue, place, id, group) end
    end
  end
  if home ~= state then redis.call('HSET', key, 'state', home) end
  if home ~= 'active' then disclaim(own, {id}) end
  if home == 'active' and not leased then
    keep('ZADD', lease, whole(now), id)
    if done == '' then done = 'unleased' end
  elseif home ~= 'active' and leased then
    keep('ZREM', lease, id)
    if done == '' then done = 'misplaced' end
  end
  return done
end
