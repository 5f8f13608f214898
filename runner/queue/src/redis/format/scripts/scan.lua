-- A part of all keys of the server that has a queue: the ids of the queue's tasks among them.
-- KEYS: the queue's pending list.
-- ARGV after the clock: what keys of its tasks begin with, cursor ('0' to begin), how many keys about.
-- Returns: next cursor ('0' at the end), then ids.
local prefix = ARGV[3]
local part = redis.call('SCAN', ARGV[4], 'COUNT', ARGV[5])
local reply = {part[1]}
for _, key in ipairs(part[2]) do
  if string.sub(key, 1, #prefix) == prefix then reply[#reply + 1] = string.sub(key, #prefix + 1) end
end
return reply
