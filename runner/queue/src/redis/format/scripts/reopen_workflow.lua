-- Forgets failures of a workflow that has failed.
-- KEYS: the workflow, its steps, their payloads, their ends.
-- ARGV after the clock: seconds to keep it; then the numbers of steps.
-- Returns: the workflow as it is then; nothing in its first place if there is none.
local head = workflow_head(KEYS[1])
if not head[1] or head[2] ~= 'failed' then return head end
local failed = stored(head[7]) or 0
for at = 4, #ARGV do
  if string.sub(keep('HGET', KEYS[4], ARGV[at]) or '', 1, 1) == 'f' then
    redis.call('HDEL', KEYS[4], ARGV[at])
    failed = failed - 1
  end
end
local state = failed > 0 and 'failed' or 'running'
changed(KEYS[1], 'state', state, 'epoch', whole((stored(head[4]) or 0) + 1), 'failed', whole(math.max(failed, 0)))
keep_keys(ARGV[3], state)
return workflow_head(KEYS[1])
