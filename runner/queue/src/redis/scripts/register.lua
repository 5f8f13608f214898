-- Makes schedules known: a new one, or one whose timing changed, stands at the present, never further back. A cursor
-- more than a day ahead was written while the clock was wrong; it is set to the present.
-- KEYS: the cursors.
-- ARGV after the clock: for each schedule: id, revision.
-- Returns: for each schedule: cursor, who paused it, nominal instant and task of the last fire; then the ids of those
-- whose cursors were ahead.
local reply, ahead = {}, {}
for i = 3, #ARGV, 2 do
  local id, revision = ARGV[i], ARGV[i + 1]
  local known = keep('HMGET', KEYS[1], 'c:' .. id, 'r:' .. id, 'z:' .. id, 'l:' .. id, 't:' .. id)
  local cursor = known[1]
  local at = stored(cursor)
  -- What is no instant is no cursor.
  if not at or at < 0 then cursor = nil end
  if cursor and at > now + 86400 then
    ahead[#ahead + 1] = id
    cursor = nil
  end
  if not cursor or known[2] ~= revision then
    cursor = whole(math.max(cursor and at or 0, now))
    redis.call('HSET', KEYS[1], 'c:' .. id, cursor, 'r:' .. id, revision)
  end
  reply[#reply + 1] = cursor
  for field = 3, 5 do reply[#reply + 1] = known[field] or '' end
end
for _, id in ipairs(ahead) do reply[#reply + 1] = id end
return reply
