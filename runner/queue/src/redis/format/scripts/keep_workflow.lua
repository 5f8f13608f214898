-- Stores a workflow with its steps, unless there is one of its id.
-- KEYS: the workflow, its steps, their payloads, their ends.
-- ARGV after the clock: seconds to keep it, the plan in JSON; then for each step what it is in JSON, and its payload or ''.
-- Returns: 1, or 0 if the id is taken.
if workflow_head(KEYS[1])[1] then return 0 end
redis.call('DEL', unpack(KEYS))
changed(KEYS[1], 'plan', ARGV[4], 'state', 'running', 'sent', 0, 'epoch', 0, 'called', 0, 'done', 0, 'failed', 0,
  'error', '', 'kept', 0, 'steps', whole((#ARGV - 4) / 2), 'created', whole(millis))
for at = 5, #ARGV, 2 do
  local number = whole((at - 5) / 2)
  redis.call('HSET', KEYS[2], number, ARGV[at])
  if ARGV[at + 1] ~= '' then redis.call('HSET', KEYS[3], number, ARGV[at + 1]) end
end
keep_keys(ARGV[3], 'running')
return 1
