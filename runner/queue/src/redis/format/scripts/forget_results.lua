-- Forgets the results of steps that are done.
-- KEYS: the workflow, its steps, their payloads, their ends.
-- ARGV after the clock: seconds to keep it; then numbers of steps, at most 500.
-- Returns: how many results are gone.
if not workflow_head(KEYS[1])[1] then return 0 end
local numbers = {unpack(ARGV, 4)}
if #numbers == 0 then return 0 end
local ends = look({}, 'HMGET', KEYS[4], unpack(numbers))
local forgotten, bytes = 0, 0
for at, number in ipairs(numbers) do
  local said = ends[at]
  if said and #said > 1 and string.sub(said, 1, 1) == 'd' then
    redis.call('HSET', KEYS[4], number, 'd')
    forgotten, bytes = forgotten + 1, bytes + #said - 1
  end
end
local kept = kept_bytes(KEYS[1])
if forgotten > 0 and kept then redis.call('HSET', KEYS[1], 'kept', whole(math.max(kept - bytes, 0))) end
return forgotten
