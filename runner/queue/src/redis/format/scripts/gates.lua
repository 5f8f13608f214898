-- Gates: a limit of a type or queue, for one value of its key. A gate is a text: name of the limit, then a tab and the value if
-- it has one. All is kept beside the queue:
--   gates           by gate, its rule: letter (c concurrency, m semaphore, r rate, s sequence), how many or ms between two, how many
--                   at once
--   gated           by id of a task, a line for each gate that it holds (h) or waits at (w), or that refused it (x)
--   holders:<gate>  ids, by when they passed in ms; not for a rate
--   waiters:<gate>  ids in their order; such a task is scheduled, or pending again
--   tat:<gate>      for a rate, the ms up to which its tasks are used up
--   look            gates with waiters, by the ms at which to look at them again
--   turn            counts the waiters of all gates: their order
-- Whether a task still holds or waits is decided by the task itself, so that nothing is lost by programs that know no gates: these
-- records are only checked when a gate is full, and corrected then.
-- Needs clock.lua and semaphores.lua. Gives: gate_rule(text), free_at(queue, own, gate, rule), go_on(queue, own, gate, most),
-- leave_gates(queue, own, ids, staying), look_at_due(queue, own, most), and let_in, the ids that passed in this call.

-- A full gate is looked at again after this many ms, should its holders end unnoticed.
local LOOK_AGAIN = 10000
-- And a full semaphore after this many, where others than the tasks of this queue hold places: they leave silently. With many
-- gates later, so that looks stay few; later also while there is room and no worker claims.
local LOOK_FOR_GO, FOR_EACH_GATE, LOOK_UNCLAIMED = 100, 5, 1000
-- A task that may go on and is not claimed within this many ms loses its place.
local UNCLAIMED = 60000
-- Holders and waiters that are checked in one look.
local CHECKED, MOVED = 1000, 100

local let_in = {}

local function gate_rule(text)
  local letter, a, b = string.match(text or '', '^([cmrs]),([%d.e+-]*),(%d*)$')
  a, b = tonumber(a), tonumber(b)
  -- A rule that something else was written over is none: a fraction of a task, or no time between two, would fail below.
  local counts = letter == 'c' or letter == 'm'
  if counts and not (a and a >= 1 and a < 1e9) then return nil end
  if letter == 'r' and not (a and a > 0 and a < 1e13 and b and b >= 1) then return nil end
  return letter and {letter = letter, a = counts and math.floor(a) or a or 1, b = b or 1}
end

-- Removes one line of what a task holds and waits at.
local function drop_line(own, id, line)
  local text = keep('HGET', own .. 'gated', id)
  if not text then return end
  local rest = {}
  for other in string.gmatch(text, '[^\n]+') do
    if other ~= line then rest[#rest + 1] = other end
  end
  if #rest > 0 then
    redis.call('HSET', own .. 'gated', id, table.concat(rest, '\n'))
  else
    redis.call('HDEL', own .. 'gated', id)
  end
end

-- Tasks that have not ended for good keep their place in an order.
local ONGOING = {active = true, pending = true, retry = true, scheduled = true}

-- Removes holders that are none any more. Returns how many remain.
local function check_holders(queue, own, gate, rule)
  local key, gone = own .. 'holders:' .. gate, {}
  local ids = keep('ZRANGE', key, 0, CHECKED - 1)
  local leases = rule.letter ~= 's' and #ids > 0 and keep('ZMSCORE', queue .. 'lease', unpack(ids)) or {}
  for i, id in ipairs(ids) do
    local holds = leases[i]
    if rule.letter == 's' then holds = ONGOING[of_task('HGET', queue .. 't:' .. id, 'state') or ''] end
    if not holds and not let_in[id] then gone[#gone + 1] = id end
  end
  spread('ZREM', key, gone)
  for _, id in ipairs(gone) do
    drop_line(own, id, 'h' .. gate)
    leave_place(gate, id)
  end
  return keep('ZCARD', key)
end

-- How many places of a semaphore are free, and when to look again in ms. Members whose time is over are dropped as Go programs do.
local function free_places(queue, own, gate, rule)
  local key = semaphore_of(gate)
  local held = key and at_semaphore('ZREMRANGEBYSCORE', key, '-inf', whole(now - 1)) and at_semaphore('ZCARD', key)
  if held and held >= rule.a then
    check_holders(queue, own, gate, rule)
    held = at_semaphore('ZCARD', key)
  end
  if not held then return 0, millis + LOOK_AGAIN end
  local again = LOOK_AGAIN
  if held > keep('ZCARD', own .. 'holders:' .. gate) then
    again = math.min(math.max(LOOK_FOR_GO, FOR_EACH_GATE * keep('ZCARD', own .. 'look')), LOOK_AGAIN)
  end
  return math.max(rule.a - held, 0), millis + again
end

-- How many may pass now; for a rate also when one more may, in ms.
local function free_at(queue, own, gate, rule)
  if rule.letter == 'r' then
    local lead = rule.b * rule.a
    -- In this order, so that what is no number counts as the present.
    local tat = math.max(millis, tonumber(keep('GET', own .. 'tat:' .. gate) or '') or 0)
    if tat > millis + lead then
      -- Written with a wrong clock, or under a slower rate. Stored, because nothing could pass and store another one.
      tat = millis + lead
      redis.call('SET', own .. 'tat:' .. gate, string.format('%.17g', tat), 'PX', whole(lead + 1000))
    end
    local free = math.floor((millis + lead - tat) / rule.a + 0.000001)
    return free, math.ceil(tat + (free + 1) * rule.a - lead)
  end
  if rule.letter == 'm' then return free_places(queue, own, gate, rule) end
  local most = rule.letter == 's' and 1 or rule.a
  local held = keep('ZCARD', own .. 'holders:' .. gate)
  if held >= most then held = check_holders(queue, own, gate, rule) end
  return math.max(most - held, 0), millis + LOOK_AGAIN
end

-- A place behind all that were given before.
local function next_turn(own)
  local turn = try('INCR', own .. 'turn')
  -- A new counter, or one that was overwritten: it begins above those of before. Beyond 2^53 numbers would no longer differ.
  if type(turn) ~= 'number' or turn <= 1 or turn > 9007199254740000 then
    turn = millis * 1000
    redis.call('SET', own .. 'turn', whole(turn))
  end
  return whole(turn)
end

-- Lets the first waiters go on: those that are scheduled come to the front of the queue. Returns how many of them there are, at
-- most as many as asked for. They stay waiters until they pass, so that none is overtaken.
local function go_on(queue, own, gate, most)
  local key, front, there, left = own .. 'waiters:' .. gate, {}, 0, CHECKED
  local in_order, passed_by = find(gate, '^sequence'), MOVED
  most = math.min(most, MOVED)
  while there < most and left > 0 do
    local ids, gone = keep('ZRANGE', key, there, most - 1), {}
    for _, id in ipairs(ids) do
      local task = queue .. 't:' .. id
      local state = of_task('HGET', task, 'state')
      if state == 'scheduled' and keep('ZREM', queue .. 'scheduled', id) == 1 then
        redis.call('HSET', task, 'state', 'pending', 'pending_since', stamp)
        front[#front + 1] = id
        state = 'pending'
      end
      local since = state == 'pending' and passed_by > 0 and not in_order
        and tonumber(of_task('HGET', task, 'pending_since') or '')
      if since and since / 1000000 < millis - UNCLAIMED then
        -- No worker serves its type now: it must not keep the others from running.
        passed_by = passed_by - 1
        keep('ZADD', key, next_turn(own), id)
      elseif state == 'pending' then
        there = there + 1
      else
        gone[#gone + 1] = id
        drop_line(own, id, 'w' .. gate)
      end
    end
    spread('ZREM', key, gone)
    left = left - #ids
    if #gone == 0 and passed_by == MOVED then break end
    if #ids == 0 then break end
  end
  for i = #front, 1, -1 do keep('RPUSH', queue .. 'pending', front[i]) end
  return there
end

-- Lets waiters go on as far as there is room, and notes when to look again. Forgets a gate that nothing uses.
local function look_at(queue, own, gate)
  local waits = keep('ZCARD', own .. 'waiters:' .. gate) > 0
  local rule = gate_rule(keep('HGET', own .. 'gates', gate))
  if waits and not rule then
    -- Its rule was removed: those that wait there are judged again when they are claimed.
    waits = go_on(queue, own, gate, MOVED) == MOVED
    if not waits then redis.call('DEL', own .. 'waiters:' .. gate) end
  elseif waits then
    local free, again = free_at(queue, own, gate, rule)
    if free > 0 then waits = go_on(queue, own, gate, free) > 0 or keep('ZCARD', own .. 'waiters:' .. gate) > 0 end
    if free > 0 and rule.letter == 'm' then again = math.max(again, millis + LOOK_UNCLAIMED) end
    if waits then keep('ZADD', own .. 'look', whole(again), gate) end
  end
  if waits then return end
  keep('ZREM', own .. 'look', gate)
  if not rule or rule.letter == 'r' or keep('ZCARD', own .. 'holders:' .. gate) == 0 then
    keep('HDEL', own .. 'gates', gate)
  end
end

-- Tasks leave the gates that they hold: their claims have ended. Those in `staying` have not ended for good and keep their place
-- in an order.
local function leave_gates(queue, own, ids, staying)
  if #ids == 0 or redis.call('EXISTS', own .. 'gated') == 0 then return end
  local lines, left, seen = keep('HMGET', own .. 'gated', unpack(ids)), {}, {}
  for i, id in ipairs(ids) do
    local stays = {}
    for line in string.gmatch(lines[i] or '', '[^\n]+') do
      local gate = string.sub(line, 2)
      if string.byte(line) == 119 then
        keep('ZREM', own .. 'waiters:' .. gate, id)
      elseif string.byte(line) == 120 then
        -- It has no place there.
      elseif staying and staying[id] and find(gate, '^sequence') then
        stays[#stays + 1] = line
      else
        keep('ZREM', own .. 'holders:' .. gate, id)
        leave_place(gate, id)
        if not seen[gate] then
          seen[gate] = true
          left[#left + 1] = gate
        end
      end
    end
    if #stays > 0 then
      redis.call('HSET', own .. 'gated', id, table.concat(stays, '\n'))
    elseif lines[i] then
      redis.call('HDEL', own .. 'gated', id)
    end
  end
  for _, gate in ipairs(left) do look_at(queue, own, gate) end
end

-- Looks at the gates whose time has come. Returns how many there were.
local function look_at_due(queue, own, most)
  local due = keep('ZRANGE', own .. 'look', '-inf', whole(millis), 'BYSCORE', 'LIMIT', 0, most)
  for _, gate in ipairs(due) do look_at(queue, own, gate) end
  return #due
end
