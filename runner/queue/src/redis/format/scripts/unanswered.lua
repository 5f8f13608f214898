-- Finds claims on tasks of one queue that the caller does not know of because their answer was lost, and extends their leases.
-- KEYS: the queue's active list.
-- ARGV after the clock: queue prefix, own prefix, who claims, how many ms ago the first call without an answer began,
-- lease in ms; then the runs that the caller knows.
-- Returns: the new end of the leases in seconds; then for each claim made since: id, message, run, crashes counted against
-- the task or '', ms that its last run took or '', and the limit because of which it is not to be run or ''.
-- Tasks that one call claimed in a queue share a run, and their answer arrived for all of them or for none.
-- A claim whose lease is over is left to recovery, and so are those whose messages make the answer larger than 8 MiB.
-- Needs claims.lua and semaphores.lua.
local queue, own, by = ARGV[3], ARGV[4], ' ' .. ARGV[5]
local since, score = millis - tonumber(ARGV[6]), whole((millis + tonumber(ARGV[7])) / 1000)
local known, reply, leases, held, room = {}, {score}, {}, {}, 8388608
for i = 8, #ARGV do known[ARGV[i]] = true end
local fields = keep('HGETALL', own .. 'claims')
for i = 1, #fields, 2 do
  local id, run, at, whom = fields[i], string.match(fields[i + 1], '^(%d+) (%d+)( .+)$')
  if whom == by and not known[run] and tonumber(at) >= since and room > 0 then
    local key = queue .. 't:' .. id
    local task = of_task('HMGET', key, 'state', 'msg', 'lost', 'ran') or {}
    local ends = keep('ZSCORE', queue .. 'lease', id)
    if task[1] == 'active' and task[2] and ends and tonumber(ends) > now then
      room = room - #task[2]
      local refused = string.match('\n' .. (keep('HGET', own .. 'gated', id) or ''), '\nx([^\n]+)') or ''
      refused = string.gsub(refused, '\t', ', key ')
      for _, value in ipairs({id, task[2], run, task[3] or '', task[4] or '', refused}) do reply[#reply + 1] = value end
      leases[#leases + 1], leases[#leases + 2] = score, id
      held[#held + 1] = id
      -- As after every extension: see outlives in claims.lua.
      redis.call('HSET', key, 'run', run)
    end
  end
end
spread('ZADD', queue .. 'lease', leases)
hold_places(own, held, score)
keep_claims(own)
return reply
