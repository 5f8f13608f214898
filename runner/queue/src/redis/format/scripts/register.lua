-- Registers schedules: a new one, one whose timing changed or one that was withdrawn gets the present as its cursor, never
-- an earlier one. A cursor further ahead than any can be was written with a wrong clock; it is set to the present, which
-- is recorded, and the occurrences decided ahead are remembered.
-- KEYS: the cursors, the record of all decisions (that of one schedule has a colon and its id behind it).
-- ARGV after the clock: seconds that a cursor may be ahead, how many spans to remember of each schedule, how many
-- decisions to keep in all, how many of each schedule, seconds to keep a schedule's own record; then for each schedule:
-- id, revision.
-- Returns: for each schedule: cursor, who paused it, nominal instant and task of the last fire, spans decided ahead,
-- the cursor that was ahead or ''.
local bound, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local reply, corrected, furthest = {}, 0, 0

-- Records that the cursor was ahead. Returns the spans with the one decided ahead: it starts where the record is complete and
-- ends with the last fire.
local function correct(id, cursor, since, last, spans)
  local distance = cursor - now
  corrected, furthest = corrected + 1, math.max(furthest, distance)
  local reason = "the cursor was " .. whole(distance) .. " s ahead of the broker's clock; it is set to the present"
  record(KEYS[2], KEYS[2] .. ':' .. id, {decided(id, '', now, 'corrected', reason, nil, 0)}, ARGV[5], ARGV[6], ARGV[7])
  if not last then return spans end
  local from, to = math.max(since or last, now + 1), math.min(cursor, last)
  if from > to then return spans end
  return add_span(spans, from, to, most)
end

for i = 8, #ARGV, 2 do
  local id, revision = ARGV[i], ARGV[i + 1]
  local known = keep('HMGET', KEYS[1], 'c:' .. id, 'r:' .. id, 'z:' .. id, 'l:' .. id, 't:' .. id, 'a:' .. id,
    'u:' .. id, 'w:' .. id)
  local cursor, spans, was = stored(known[1]), known[6] or '', ''
  -- An invalid instant is not a cursor.
  if cursor and cursor < 0 then cursor = nil end
  if cursor and cursor > now + bound then
    was = whole(cursor)
    -- Of a schedule registered by an older program only the last fire is known.
    spans = correct(id, cursor, stored(known[7]), stored(known[4]), spans)
    if spans ~= '' then redis.call('HSET', KEYS[1], 'a:' .. id, spans) end
    cursor = nil
  end
  if not cursor or known[2] ~= revision or known[8] then
    cursor = math.max(cursor or 0, now)
    redis.call('HSET', KEYS[1], 'c:' .. id, whole(cursor), 'r:' .. id, revision, 'u:' .. id, whole(cursor))
    if known[8] then redis.call('HDEL', KEYS[1], 'w:' .. id) end
  end
  reply[#reply + 1] = whole(cursor)
  for field = 3, 5 do reply[#reply + 1] = known[field] or '' end
  reply[#reply + 1] = spans
  reply[#reply + 1] = was
end
if corrected > 0 then
  -- Batches of the same correction count together.
  local at, ahead, count = string.match(redis.call('HGET', KEYS[1], 'k') or '', '^(%d+) (%d+) (%d+)$')
  at, ahead, count = stored(at), stored(ahead), stored(count)
  if at and ahead and count and now - at >= 0 and now - at <= 60 then
    corrected, furthest = corrected + count, math.max(furthest, ahead)
  end
  redis.call('HSET', KEYS[1], 'k', whole(now) .. ' ' .. whole(furthest) .. ' ' .. whole(corrected))
end
return reply
