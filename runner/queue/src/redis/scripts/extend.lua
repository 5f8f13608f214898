-- Extends leases on tasks of one queue.
-- KEYS: the queue's lease set.
-- ARGV after the clock: queue prefix, lease in ms; then for each claim: id, run.
-- Returns: the new end in seconds, then 1 or 0 for each claim: whether it still is the caller's.
-- A lease that is missing although the claim stands is written anew.
local queue = ARGV[3]
local score = whole((millis + tonumber(ARGV[4])) / 1000)
local reply, leases = {score}, {}
for i = 5, #ARGV, 2 do
  local held = redis.call('HMGET', queue .. 't:' .. ARGV[i], 'state', 'run')
  if held[1] == 'active' and is_run(held[2], ARGV[i + 1]) then
    leases[#leases + 1] = score
    leases[#leases + 1] = ARGV[i]
    reply[#reply + 1] = 1
  else
    reply[#reply + 1] = 0
  end
end
spread('ZADD', KEYS[1], leases)
return reply
