-- Writes the description of a worker process and its running tasks.
-- KEYS: its description, its running tasks, the task types it has handlers for; then, unless they are on another node, the
-- lists of all queues, of descriptions and of running tasks.
-- ARGV after the clock: seconds to keep them, how many queues it serves, their names, description, handlers; then for
-- each running task: id, message.
local ttl, queues = ARGV[3], tonumber(ARGV[4])
local at = 5 + queues
redis.call('DEL', KEYS[2])
if KEYS[4] then
  local ends = whole(now + tonumber(ttl))
  local names = {}
  for i = 5, at - 1 do names[#names + 1] = ARGV[i] end
  spread('SADD', KEYS[4], names)
  keep('ZADD', KEYS[5], ends, KEYS[1])
  keep('ZADD', KEYS[6], ends, KEYS[2])
end
redis.call('SET', KEYS[1], ARGV[at], 'EX', ttl)
redis.call('SET', KEYS[3], ARGV[at + 1], 'EX', ttl)
local work = {}
for i = at + 2, #ARGV do work[#work + 1] = ARGV[i] end
spread('HSET', KEYS[2], work)
if #work > 0 then redis.call('EXPIRE', KEYS[2], ttl) end
return #work / 2
