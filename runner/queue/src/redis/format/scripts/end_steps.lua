-- Writes down how steps of a workflow ended.
-- KEYS: the workflow, its steps, their payloads, their ends.
-- ARGV after the clock: seconds to keep it, the epoch in which failures count, the most bytes of results that are kept of the
-- workflow; then for each step number, 'd' done or 'f' failed, and result or error.
-- Returns: the workflow as it is then; nothing in its first place if there is none.
local head = workflow_head(KEYS[1])
if not head[1] then return head end
local state, epoch, why = head[2], stored(head[4]) or 0, head[8] or ''
local done, failed = math.max(stored(head[6]) or 0, 0), math.max(stored(head[7]) or 0, 0)
local steps = stored(look(false, 'HGET', KEYS[1], 'steps')) or look(0, 'HLEN', KEYS[2])
local counts = epoch == tonumber(ARGV[4])
local kept, room = kept_bytes(KEYS[1]), tonumber(ARGV[5])
for at = 6, #ARGV, 3 do
  local number, how = ARGV[at], ARGV[at + 1]
  local before = string.sub(keep('HGET', KEYS[4], number) or '', 1, 1)
  if tonumber(number) >= steps then
    -- The workflow has no such step.
  elseif how == 'd' and before ~= 'd' and before ~= 'o' then
    local result = ARGV[at + 2]
    if kept and #result > 0 and kept + #result > room then
      redis.call('HSET', KEYS[4], number, 'o')
    else
      redis.call('HSET', KEYS[4], number, 'd' .. result)
      kept = kept and kept + #result
    end
    done = done + 1
    if before == 'f' then failed = math.max(failed - 1, 0) end
  elseif how == 'f' and before == '' and counts then
    redis.call('HSET', KEYS[4], number, how .. ARGV[at + 2])
    failed, why = failed + 1, ARGV[at + 2]
  end
end
if state == 'running' and failed > 0 then
  state = 'failed'
elseif state == 'failed' and failed == 0 then
  state, epoch = 'running', epoch + 1
end
changed(KEYS[1], 'state', state or '', 'epoch', whole(epoch), 'done', whole(done), 'failed', whole(failed), 'error', why)
if kept then redis.call('HSET', KEYS[1], 'kept', whole(kept)) end
keep_keys(ARGV[3], state)
return workflow_head(KEYS[1])
