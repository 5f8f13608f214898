-- Writes what a server tells about itself and what it works on.
-- KEYS: its description, its work, the task types it has handlers for.
-- ARGV after the clock: seconds to keep them, description, handlers; then for each task in work: id, message.
local ttl = ARGV[3]
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], ARGV[4], 'EX', ttl)
redis.call('SET', KEYS[3], ARGV[5], 'EX', ttl)
local work = {}
for i = 6, #ARGV do work[#work + 1] = ARGV[i] end
spread('HSET', KEYS[2], work)
if #work > 0 then redis.call('EXPIRE', KEYS[2], ttl) end
return #work / 2
