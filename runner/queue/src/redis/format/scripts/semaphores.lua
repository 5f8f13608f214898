-- The semaphores of asynq's package x/rate, which Go programs share. The sorted set asynq:sema:<scope> has the id of each task that
-- holds a place there, with the second in which that ends at the latest. A gate that is named `semaphore <scope>` counts these members,
-- also those of other programs; the tasks of its queue that hold a place are its holders too, as at other gates.
-- Such a key may be one that the server does not let us use, or of another slot of a cluster. There is no room then: scripts must not
-- fail because of it.
-- Needs clock.lua. Gives: semaphore_of(gate), at_semaphore(command, key, ...), hold_place(gate, id, lease), leave_place(gate, id),
-- hold_places(own, ids, lease) and leave_places(own, ids).

-- Go programs count a member until its second has passed by their clock. Ours last as long as leases and this many seconds, as their
-- clocks may differ from the server's.
local BEYOND_LEASE = 60

-- Its key; nil for a gate that is no semaphore. The value of a key follows the scope after a colon.
local function semaphore_of(gate)
  local scope = string.match(gate, '^semaphore (.+)$')
  return scope and 'asynq:sema:' .. string.gsub(scope, '\t', ':', 1)
end

-- The answer; nil if the key cannot be used.
local function at_semaphore(...)
  local answer = try(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not find(answer.err, 'WRONGTYPE', 1, true) then return nil end
  local moved, again = pcall(keep, ...)
  if moved then return again end
end

-- lease: the second in which that of the task ends.
local function hold_place(gate, id, lease)
  at_semaphore('ZADD', semaphore_of(gate), whole(lease + BEYOND_LEASE), id)
end

local function leave_place(gate, id)
  local key = semaphore_of(gate)
  if key then at_semaphore('ZREM', key, id) end
end

-- Calls a function with each place that tasks hold: gate and id.
local function each_place(own, ids, call)
  if #ids == 0 or redis.call('EXISTS', own .. 'gated') == 0 then return end
  for from = 1, #ids, 1000 do
    local lines = keep('HMGET', own .. 'gated', unpack(ids, from, math.min(from + 999, #ids)))
    for i, text in ipairs(lines) do
      for line in string.gmatch(text or '', '[^\n]+') do
        local gate = string.match(line, '^h(semaphore .+)$')
        if gate then call(gate, ids[from + i - 1]) end
      end
    end
  end
end

-- Tasks whose leases were extended keep their places as long.
local function hold_places(own, ids, lease)
  each_place(own, ids, function(gate, id) hold_place(gate, id, lease) end)
end

local function leave_places(own, ids)
  each_place(own, ids, leave_place)
end
