-- First of three steps of a commit in a cluster: records what is about to be enqueued, changes nothing else.
-- KEYS: the cursors.
-- ARGV after the clock: schedule, cursor before, the intent; then for each fire: fire instant in ms, nominal instant.
-- Returns: 'go' or 'open', previous task's key or '', its id or '', the same of the last manual run, time in seconds, and
-- if open the earlier intent, which must be completed first; 'moved' and the cursor; 'early' and the wait in ms; 'unknown',
-- also if it was withdrawn; 'paused'; 'ahead' and the spans if an occurrence was decided while the clock was ahead.
local id, from = ARGV[3], ARGV[4]
local known = keep('HMGET', KEYS[1], 'c:' .. id, 'z:' .. id, 'i:' .. id, 'p:' .. id, 't:' .. id, 'a:' .. id, 'w:' .. id,
  'mp:' .. id, 'mt:' .. id)
local cursor, open = known[1], known[3]
-- An invalid cursor counts as unknown; the next registration replaces it.
if not stored(cursor) then return {'unknown'} end
if open then
  return {'open', known[4] or '', known[5] or '', known[8] or '', known[9] or '', whole(now), open}
end
if known[7] then return {'unknown'} end
if cursor ~= from then return {'moved', cursor} end
if known[2] then return {'paused'} end
for i = 6, #ARGV, 2 do
  if known[6] and inside(known[6], tonumber(ARGV[i + 1])) then return {'ahead', known[6]} end
  -- Clocks of instances differ from the server's by half a round trip.
  local ahead = tonumber(ARGV[i]) - millis
  if ahead > 50 then return {'early', whole(ahead)} end
end
redis.call('HSET', KEYS[1], 'i:' .. id, ARGV[5])
return {'go', known[4] or '', known[5] or '', known[8] or '', known[9] or '', whole(now)}
