-- Moves tasks of expired staged sets back into their groups, and restores the names of the groups.
-- KEYS: the list of staged sets.
-- ARGV after the clock: queue prefix, grace in ms, how many tasks at most, how many sets at most, the longest time of a
-- set in s.
-- Returns: 1 if a limit cut it short, then for each set: its group, how many tasks went back.
local queue, most, sets = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
local cutoff = whole((millis - tonumber(ARGV[4])) / 1000)
local stale = keep('ZRANGE', KEYS[1], '-inf', cutoff, 'BYSCORE', 'LIMIT', 0, sets)
-- A deadline a day ahead was written with a wrong clock, or by mistake; one further ahead than any can be is shortened.
local day, longest = whole(now + 86400), whole(now + tonumber(ARGV[7]))
for _, set in ipairs(keep('ZRANGE', KEYS[1], '(' .. longest, '(' .. day, 'BYSCORE', 'LIMIT', 0, sets)) do
  redis.call('ZADD', KEYS[1], longest, set)
end
for _, set in ipairs(keep('ZRANGE', KEYS[1], day, '+inf', 'BYSCORE', 'LIMIT', 0, sets - #stale)) do
  stale[#stale + 1] = set
end
local reply, head = {0}, queue .. 'g:'
for nth, set in ipairs(stale) do
  -- The group is what comes before the last colon.
  local group = string.match(set, '^(.*):[^:]*$') or ''
  local left = 0
  if string.sub(group, 1, #head) == head then
    local found = keep('ZRANGE', set, 0, most - 1, 'WITHSCORES')
    local rows = {}
    for i = 1, #found, 2 do
      rows[i], rows[i + 1] = found[i + 1], found[i]
    end
    keep('ZREMRANGEBYRANK', set, 0, #found / 2 - 1)
    spread('ZADD', group, rows)
    local name = string.sub(group, #head + 1)
    if #found > 0 then
      keep('SADD', queue .. 'groups', name)
      reply[#reply + 1] = name
      reply[#reply + 1] = #found / 2
    end
    most = most - #found / 2
    left = keep('ZCARD', set)
  end
  if left == 0 then keep('ZREM', KEYS[1], set) end
  if most <= 0 and (left > 0 or nth < #stale) then
    reply[1] = 1
    break
  end
end
if #stale == sets then reply[1] = 1 end
return reply
