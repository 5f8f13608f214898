-- Takes, renews or resigns leadership.
-- KEYS: the leader's key.
-- ARGV after the clock: instance, time to live in ms or '' to resign, the longest time to live in s.
-- Returns: 1 if the instance leads now.
-- The value names the end by the clock in use; the key's own end only cleans up.
local value = look(false, 'GET', KEYS[1])
local ends, holder = string.match(value or '', '^(%d+) (.*)$')
-- An expiry further ahead than any can be was written with a wrong clock, or by mistake.
ends = stored(ends)
local free = not ends or ends <= millis or ends > millis + 1000 * tonumber(ARGV[5])
local ours = holder == ARGV[3]
if ARGV[4] == '' then
  if ours then redis.call('DEL', KEYS[1]) end
  return 0
end
if not (free or ours) then return 0 end
redis.call('SET', KEYS[1], whole(millis + tonumber(ARGV[4])) .. ' ' .. ARGV[3], 'PX', ARGV[4])
return 1
