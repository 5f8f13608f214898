-- Writes members into a set of queue names, or one member with its expiry into a sorted set.
-- KEYS: the set.
-- ARGV after the clock: '' or time to live in s, then members.
local members = {}
if ARGV[3] == '' then
  for i = 4, #ARGV do members[#members + 1] = ARGV[i] end
  spread('SADD', KEYS[1], members)
else
  for i = 4, #ARGV do
    members[#members + 1] = whole(now + tonumber(ARGV[3]))
    members[#members + 1] = ARGV[i]
  end
  spread('ZADD', KEYS[1], members)
end
return #members
