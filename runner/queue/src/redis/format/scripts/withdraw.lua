-- Withdraws schedules that an instance no longer has, unless another live one has them.
-- KEYS: the cursors, the instances by their expiry, the schedules of this one, the set of their source.
-- ARGV after the clock: instance, prefix of the keys of the instances' schedules, their suffix, the longest
-- time to live in s; then the ids.
-- Returns: the withdrawn ids.
local others = {}
local live = keep('ZRANGE', KEYS[2], whole(now + 1), whole(now + tonumber(ARGV[6])), 'BYSCORE', 'LIMIT', 0, 1000)
for _, instance in ipairs(live) do
  if instance ~= ARGV[3] then others[#others + 1] = ARGV[4] .. instance .. ARGV[5] end
end
local reply = {}
for i = 7, #ARGV do
  local id, held = ARGV[i], false
  keep('HDEL', KEYS[3], id)
  for _, key in ipairs(others) do
    if look(0, 'HEXISTS', key, id) == 1 then
      held = true
      break
    end
  end
  if not held then
    keep('SREM', KEYS[4], id)
    if keep('HEXISTS', KEYS[1], 'c:' .. id) == 1 and redis.call('HSETNX', KEYS[1], 'w:' .. id, whole(now)) == 1 then
      reply[#reply + 1] = id
    end
  end
end
return reply
