-- Changes the place of a workflow, if it is the expected one.
-- KEYS: the workflow, its steps, their payloads, their ends.
-- ARGV after the clock: seconds to keep it; state, stages sent, epoch and reported epoch as expected, and the same as they are to be.
-- Returns: 1, or 0 if the place is another one.
local head = workflow_head(KEYS[1])
for i = 1, 4 do
  if head[i + 1] ~= ARGV[i + 3] then return 0 end
end
changed(KEYS[1], 'state', ARGV[8], 'sent', ARGV[9], 'epoch', ARGV[10], 'called', ARGV[11])
keep_keys(ARGV[3], ARGV[8])
return 1
