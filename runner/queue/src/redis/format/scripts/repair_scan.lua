-- Scans a part of the server's keys for tasks of a queue.
-- KEYS: the queue's pending list.
-- ARGV after the clock: prefix of its tasks' keys, cursor ('0' to begin), about how many keys.
-- Returns: next cursor ('0' at the end), then ids.
local prefix = ARGV[3]
local part = redis.call('SCAN', ARGV[4], 'COUNT', ARGV[5])
local reply = {part[1]}
for _, key in ipairs(part[2]) do
  if string.sub(key, 1, #prefix) == prefix then reply[#reply + 1] = string.sub(key, #prefix + 1) end
end
return reply
