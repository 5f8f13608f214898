-- Takes tasks from queues, from the first one onwards, up to a number in all.
-- KEYS: the pending list of each queue.
-- ARGV after the clock: how many, lease in ms; then for each queue: queue prefix, own prefix; then who claims or ''.
-- Returns: end of the lease in seconds; then for each queue that gave any: its number (from 1), how many, the run
-- of the first (each further one has the next run), then id and message of each.
-- The run is drawn from a count of the queue's claims, so that it also differs from that of an earlier task of
-- the same id; a count that begins goes on from the time, above those of a queue of this name that was removed.
-- An id whose task is gone is dropped and counted, and the next one is taken in its place. A paused queue yields
-- nothing.
local wanted = tonumber(ARGV[3])
local lease = whole((millis + tonumber(ARGV[4])) / 1000)
local by = ARGV[#ARGV]
if by ~= '' then by = ' ' .. whole(millis) .. ' ' .. by end
local reply = {lease}

local function take(number, queue, own, most)
  local ids = redis.call('RPOP', KEYS[number], most)
  if not ids then return 0, true end
  local active, leases, prefix = {}, {}, queue .. 't:'
  local run = redis.call('INCRBY', own .. 'run', #ids) - #ids
  if run == 0 then run = redis.call('INCRBY', own .. 'run', whole(millis * 1000)) - #ids end
  local head = #reply
  local at = head + 3
  for _, id in ipairs(ids) do
    local key = prefix .. id
    local msg = redis.call('HGET', key, 'msg')
    if msg then
      local nth = #active + 1
      -- A field goes before one comes: the hash need not grow.
      redis.call('HDEL', key, 'pending_since')
      redis.call('HSET', key, 'state', 'active', 'run', whole(run + nth) .. by)
      active[nth] = id
      leases[2 * nth - 1], leases[2 * nth] = lease, id
      reply[at + 1], reply[at + 2] = id, msg
      at = at + 2
    else
      redis.call('DEL', key)
      redis.call('INCR', own .. 'ghosts')
    end
  end
  if #active > 0 then reply[head + 1], reply[head + 2], reply[head + 3] = number, #active, whole(run + 1) end
  spread('LPUSH', queue .. 'active', active)
  spread('ZADD', queue .. 'lease', leases)
  -- Another program may have forwarded a task that has a note here.
  if redis.call('EXISTS', own .. 'waiting') == 1 then spread('HDEL', own .. 'waiting', active) end
  return #active, #ids < most
end

for number = 1, #KEYS do
  local queue, own = ARGV[3 + 2 * number], ARGV[4 + 2 * number]
  if redis.call('EXISTS', queue .. 'paused') == 0 then
    -- A second look only when ids were dropped; the number of looks is bounded like everything here.
    for _ = 1, 100 do
      local taken, empty = take(number, queue, own, wanted)
      wanted = wanted - taken
      if wanted <= 0 then return reply end
      if empty then break end
    end
  end
end
return reply
