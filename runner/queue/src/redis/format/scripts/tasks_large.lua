-- Large messages of tasks, with their long texts cut: as many as fit into a bounded size, and at least one.
-- KEYS: the queue's pending list (names the slot).
-- ARGV after the clock: queue prefix, how many bytes of long texts, how many bytes to read; then ids.
-- Needs cut.lua. Returns for each task, from the first one onwards: message or '' if there is none, its bytes, bytes of its
-- payload.
local prefix, most, room = ARGV[3] .. 't:', tonumber(ARGV[4]), tonumber(ARGV[5])
local reply = {}
for i = 6, #ARGV do
  local key, msg, payload = prefix .. ARGV[i], '', 0
  local bytes = field_length(key, 'msg')
  if bytes > 0 then
    if i > 6 and bytes > room then break end
    room = room - bytes
    msg, payload = cut(redis.call('HGET', key, 'msg'), most)
  end
  reply[#reply + 1] = msg
  reply[#reply + 1] = bytes
  reply[#reply + 1] = payload
end
return reply
