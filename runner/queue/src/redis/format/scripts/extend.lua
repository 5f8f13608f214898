-- Extends leases on tasks of one queue.
-- KEYS: the queue's lease set.
-- ARGV after the clock: queue prefix, own prefix, lease in ms, how many claims (at most 1000); then their ids; then for
-- each: run, second until which it was made.
-- Returns: the new end in seconds, then 1 or 0 for each claim: whether the caller still holds it.
-- A missing lease of a claim that holds is written again.
local queue, own, count = ARGV[3], ARGV[4], tonumber(ARGV[6])
local score = whole((millis + tonumber(ARGV[5])) / 1000)
local ids = {unpack(ARGV, 7, 6 + count)}
local fields, ends = claimed(own, ids), keep('ZMSCORE', KEYS[1], unpack(ids))
local reply, leases, held = {score}, {}, {}
for i = 1, count do
  local id, run, till = ids[i], ARGV[5 + count + 2 * i], tonumber(ARGV[6 + count + 2 * i])
  local key = queue .. 't:' .. id
  local stands = is_run(fields[i], run) and (now < till or outlives(queue, id, run, till))
    and (ends[i] or of_task('HGET', key, 'state') == 'active')
  -- Used by later checks of the claim: see outlives.
  stands = stands and of_task('HSET', key, 'run', run)
  if stands then
    leases[#leases + 1] = score
    leases[#leases + 1] = id
    held[#held + 1] = id
  end
  reply[i + 1] = stands and 1 or 0
end
spread('ZADD', KEYS[1], leases)
hold_places(own, held, score)
keep_claims(own)
return reply
