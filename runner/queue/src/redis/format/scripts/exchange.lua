-- Ends claims whose tasks are deleted, and claims tasks from queues, in their order, up to a total number.
-- KEYS: the pending list of each queue to take from; then, if claims end, the active list of their queue.
-- ARGV after the clock: how many to claim, lease in ms, who claims or '', how many queues to claim from; the limits that the
-- caller knows or '', see admit.lua; which types the caller knows, see types.lua; then for each queue: queue prefix, own prefix, and the known stretch of tasks of other types
-- at the right end of its list, see pick.lua: '' or depth, window, front, anchor, since; then, if claims end: queue prefix
-- and own prefix of their queue, how many groups of claims; then for each group: run, end of its lease in s, how many; then
-- the ids.
-- Returns: the numbers (from 1) of those claims that the caller no longer held; end of the leases in seconds, or '' if
-- nothing was claimed because a set of known types is missing; a list with, for each queue with a stretch of unknown tasks
-- or that was said to have one: its number (from 1), depth, length of the list, front, anchor, since, the id at its left
-- end (depth 0: none, the rest is empty); a list of the suspects among the claimed tasks: number of the queue, id, crashes,
-- ms that the last run took; with limits a list: 1 if the call ended early and the caller should claim again, else 0, then number of
-- the queue, id and limit of each claimed task that is not to be run, else an empty list; then for each queue with claimed tasks: its number, how many, their run, then id, message and
-- how long it was pending in ms ('' if that is not known) of each.
-- The run comes from a counter of the queue's claims, so that it also differs from that of an earlier task with the same
-- id; a new counter starts at the current time, above those of a removed queue of the same name.
-- An id without a task is dropped and counted, and the next one is claimed in its place. A paused queue yields nothing.
-- Tasks that would make the answer larger than a few megabytes stay: fewer are claimed than requested. A task of a type that
-- the caller does not know stays.
local wanted, by, queues = tonumber(ARGV[3]), ARGV[5], tonumber(ARGV[6])
local lease = whole((millis + tonumber(ARGV[4])) / 1000)
if by ~= '' then by = ' ' .. whole(millis) .. ' ' .. by end

-- Claims whose tasks are done: their tasks are deleted, and none of them holds a lock.
local function finish(at)
  local queue, own, groups = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  local runs, untils, first = {}, {}, at + 3 * groups
  for group = at, first - 1, 3 do
    local run, till = ARGV[group], tonumber(ARGV[group + 1])
    for nth = #runs + 1, #runs + tonumber(ARGV[group + 2]) do runs[nth], untils[nth] = run, till end
  end
  local ended, _, stale = accept(queue, own, KEYS[#KEYS], {unpack(ARGV, first)}, runs, untils)
  local gone, prefix = {}, queue .. 't:'
  for i = 1, #ended do gone[i] = prefix .. ended[i] end
  wipe(gone)
  cleared(own, ended)
  tally(queue, #ended, 0)
  leave_gates(queue, own, ended)
  return stale
end

local function next_run(own)
  local run = try('INCR', own .. 'run')
  -- A new counter, or one that was overwritten: beyond 2^53 Lua numbers would no longer differ.
  if type(run) ~= 'number' or run <= 1 or run > 9007199254740000 then
    run = millis * 1000 + 1
    redis.call('SET', own .. 'run', whole(run))
    keep('HSET', own .. 'claims', '', 'id of a task: run, when it was claimed in ms, by whom (this line is to be left)')
    keep_claims(own)
  end
  return whole(run)
end

-- At most this many bytes of messages are returned in one call, and at least one message.
local reply, room = {{}, '', {}, {}, {}}, 8388608

local admit, opened, parked = admission(ARGV[7], lease)
if admit then reply[5][1] = 0 end

-- Tasks that a call lets wait for a limit; the caller then calls again.
local PARKED = 250
-- How long such a task waits at most until it is looked at again, should nothing else do that, in s.
local WAITS = 60

-- The suspects among ids.
local function tell_suspects(number, prefix, own, ids)
  if #ids == 0 or not has_suspects(own) then return end
  local named, list = keep('SMISMEMBER', own .. 'suspects', unpack(ids)), reply[4]
  for i, id in ipairs(ids) do
    if named[i] == 1 then
      local known = redis.call('HMGET', prefix .. id, 'lost', 'ran')
      if known[1] then
        local at = #list
        list[at + 1], list[at + 2], list[at + 3], list[at + 4] = number, id, known[1], known[2] or ''
      else
        keep('SREM', own .. 'suspects', id)
      end
    end
  end
end

-- What remains of the unknown tasks at the head of a queue.
local function tell(number, remains, stretch)
  if not (remains or stretch) then return end
  local stretches = reply[3]
  stretches[#stretches + 1] = number
  for i = 1, 6 do stretches[#stretches + 1] = remains and remains[i] or i < 3 and 0 or '' end
end

-- How long a task was pending in ms, by what its producer wrote; '' if that cannot be: one such value would spoil the sum of
-- all waits.
local LONGEST = 315360000000
local function waited_since(since)
  if type(since) ~= 'string' or #since > 19 or not string.find(since, '^%d+$') then return '' end
  local length = millis - tonumber(since) / 1000000
  if length > LONGEST then return '' end
  return whole(math.max(length, 0))
end

-- Whether a key holds something that is not a task, judging by the error. Any other error means that this server cannot
-- tell now, as while a slot of a cluster migrates key by key.
local function is_odd(answer)
  return string.find(answer.err, 'WRONGTYPE', 1, true)
end

-- Claims ids that were taken off the list. Without messages they are the next ones in order: the first of an unknown type, or
-- one for which there is no room, goes back with all behind it. Returns: how many were claimed, how many were handled, and
-- whether a type was unknown.
local function hold(number, queue, own, ids, messages, takes, run, noted)
  local active, leases, claims, waits, prefix = {}, {}, {}, {}, queue .. 't:'
  local mark, head = run .. by, #reply
  local at, nth, seen, met = head + 3, 0, #ids, false
  for i = 1, #ids do
    local id = ids[i]
    local key = prefix .. id
    local msg, since
    if messages then
      msg, since = messages[i], redis.pcall('HGET', key, 'pending_since')
    else
      msg = redis.pcall('HMGET', key, 'msg', 'pending_since')
      if not msg.err then msg, since = msg[1], msg[2] end
    end
    local text = type(msg) == 'string'
    met = text and takes and not (known and find(msg, known, 1, true) == 1) and not takes(msg)
    if met or room <= 0 or not text and msg and not is_odd(msg) then
      for back = #ids, i, -1 do redis.call('RPUSH', KEYS[number], ids[back]) end
      seen = i - 1
      break
    end
    local verdict, what
    if text and admit then verdict, what = admit(queue, own, id, msg) end
    if verdict == 'wait' then
      redis.call('HDEL', key, 'pending_since')
      redis.call('HSET', key, 'state', 'scheduled')
      -- Not all at one time: each that is looked at in vain costs a move.
      waits[#waits + 1] = whole(now + WAITS + what / 1000)
      waits[#waits + 1] = id
    elseif text then
      if verdict == 'skip' then
        for _, value in ipairs({number, id, what}) do reply[5][#reply[5] + 1] = value end
      end
      redis.call('HDEL', key, 'pending_since')
      redis.call('HSET', key, 'state', 'active')
      nth, room = nth + 1, room - #msg
      active[nth] = id
      leases[2 * nth - 1], leases[2 * nth] = lease, id
      claims[2 * nth - 1], claims[2 * nth] = id, mark
      reply[at + 1], reply[at + 2], reply[at + 3] = id, msg, waited_since(since)
      at = at + 3
    else
      -- The key holds something that is not a task; it is not ours to delete.
      if not msg then redis.call('DEL', key) end
      if type(try('INCR', own .. 'ghosts')) == 'table' then redis.call('SET', own .. 'ghosts', 1) end
    end
  end
  if nth > 0 then reply[head + 1], reply[head + 2], reply[head + 3] = number, nth, run end
  spread('ZADD', queue .. 'scheduled', waits)
  if admit then opened(queue, own) end
  spread('LPUSH', queue .. 'active', active)
  spread('ZADD', queue .. 'lease', leases)
  spread('HSET', own .. 'claims', claims)
  -- Another program may have forwarded a task that has a note here.
  if noted then spread('HDEL', own .. 'waiting', active) end
  tell_suspects(number, prefix, own, active)
  wanted = wanted - nth
  if room <= 0 then wanted = 0 end
  return nth, seen, met
end

-- Claims the tasks of known types from between the others.
local function claim_known(number, queue, own, takes, stretch)
  local ids, messages, take, remains = pick(KEYS[number], queue .. 't:', wanted, room, takes, stretch)
  if #ids == 0 then return tell(number, remains(), stretch) end
  local run, noted = next_run(own), redis.call('EXISTS', own .. 'waiting') == 1
  take()
  -- Before tasks that may go on come to the front of the list.
  local left, waited = remains(), admit and parked()
  -- `pick` has reserved room for all of them.
  hold(number, queue, own, ids, messages, nil, run, noted)
  tell(number, left, stretch)
  if admit and wanted > 0 and parked() > waited then reply[5][1] = 1 end
end

-- Claims where no unknown type has been seen: the next tasks in order.
local function claim(number, queue, own, takes)
  -- A second look only if ids were dropped or wait for a limit; the number of looks is bounded.
  for _ = 1, 100 do
    if admit and parked() >= PARKED then break end
    if wanted <= 0 or keep('LLEN', KEYS[number]) == 0 then return end
    -- Before anything is taken: on a server that allows us only asynq's keys this fails, and nothing must be lost then.
    local run, noted = next_run(own), redis.call('EXISTS', own .. 'waiting') == 1
    local most = wanted
    local ids = redis.call('RPOP', KEYS[number], most)
    local _, seen, met = hold(number, queue, own, ids, nil, takes, run, noted)
    if met then return claim_known(number, queue, own, takes) end
    if seen < most then return end
  end
  if admit then reply[5][1] = 1 end
end

local takes, at, lacking = types(8)
if lacking then wanted = 0 else reply[2] = lease end
local asked = {}
for number = 1, queues do
  local ask = {queue = ARGV[at], own = ARGV[at + 1]}
  local depth = ARGV[at + 2]
  at = at + 3
  if depth ~= '' then
    ask.stretch = {
      depth = tonumber(depth), window = tonumber(ARGV[at]), front = ARGV[at + 1], anchor = ARGV[at + 2],
      since = ARGV[at + 3],
    }
    at = at + 4
  end
  asked[number] = ask
end
if at <= #ARGV then reply[1] = finish(at) end
for number = 1, queues do
  local ask = asked[number]
  if wanted > 0 and redis.call('EXISTS', ask.queue .. 'paused') == 0 then
    if admit then look_at_due(ask.queue, ask.own, 50) end
    if ask.stretch and takes then
      claim_known(number, ask.queue, ask.own, takes, ask.stretch)
    else
      claim(number, ask.queue, ask.own, takes)
      tell(number, nil, ask.stretch)
    end
  end
end
return reply
