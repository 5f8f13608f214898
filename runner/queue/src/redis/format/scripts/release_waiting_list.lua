-- Some of the tasks that wait for a handler, with their messages.
-- KEYS: the queue's notes.
-- ARGV after the clock: queue prefix, cursor ('0' to begin).
-- Returns: next cursor ('0' at the end), then for each task: id, message.
local part = look({'0', {}}, 'HSCAN', KEYS[1], ARGV[4], 'COUNT', 200)
local reply = {part[1]}
for i = 1, #part[2], 2 do
  local msg = of_task('HGET', ARGV[3] .. 't:' .. part[2][i], 'msg')
  if msg then
    reply[#reply + 1] = part[2][i]
    reply[#reply + 1] = msg
  end
end
return reply
