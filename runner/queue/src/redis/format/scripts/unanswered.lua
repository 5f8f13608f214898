-- Finds the caller's claims on tasks of one queue whose answer was lost, and extends their leases.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix, who claims, how many ms ago the first call without an answer began,
-- lease in ms.
-- Returns: the new end of the leases in seconds; then for each claim made since: id, message, run, crashes counted against
-- the task or '', ms that its last run took or ''.
-- Claims that the caller knows about are among them. A claim whose lease is over is left to recovery.
local queue, own, by = ARGV[3], ARGV[4], ' ' .. ARGV[5]
local since, score = millis - tonumber(ARGV[6]), whole((millis + tonumber(ARGV[7])) / 1000)
local reply, leases, room = {score}, {}, 8388608
local fields = keep('HGETALL', own .. 'claims')
for i = 1, #fields, 2 do
  local id, run, at, whom = fields[i], string.match(fields[i + 1], '^(%d+) (%d+)( .+)$')
  if whom == by and tonumber(at) >= since and room > 0 then
    local known = of_task('HMGET', queue .. 't:' .. id, 'state', 'msg', 'lost', 'ran') or {}
    local ends = keep('ZSCORE', queue .. 'lease', id)
    if known[1] == 'active' and known[2] and ends and tonumber(ends) > now then
      room = room - #known[2]
      for _, value in ipairs({id, known[2], run, known[3] or '', known[4] or ''}) do reply[#reply + 1] = value end
      leases[#leases + 1], leases[#leases + 2] = score, id
    end
  end
end
spread('ZADD', queue .. 'lease', leases)
return reply
