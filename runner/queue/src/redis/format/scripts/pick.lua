-- Chooses tasks from the right end of a pending list, where claims take them, so that tasks that the caller does not know
-- stay in place. The known stretch of such tasks travels with the call, so that it is not read again:
--   depth: how many ids it has, counted from the right end; anchor: the id at its left end; since: when that task became
--   pending, which shows whether it left and came back; front: the id at the right end; window: how many ids at the right
--   end to read again, 0 while the front is the same. Others may have taken any of them meanwhile.
-- Needs clock.lua. Gives: pick(list, prefix, most, room, takes, stretch).

-- Ids of unknown tasks that a call reads, and how many bytes of a message count as one more.
local LOOKS, PORTION = 1000, 4096
-- If the front has changed, this many are read there: tasks are handed back to it.
local FRONT = 8
-- A stretch that moved by more than this is searched as a whole for its left end.
local MOVED = 200

-- The present depth of the stretch; 0 if it is gone.
local function depth_of(list, prefix, length, stretch)
  local since = try('HGET', prefix .. stretch.anchor, 'pending_since') or ''
  if since ~= stretch.since then return 0 end
  local depth = stretch.depth
  if redis.call('LINDEX', list, -depth) == stretch.anchor then return depth end
  local first = math.min(length, depth + MOVED)
  local near = redis.call('LRANGE', list, -first, -math.max(depth - MOVED, 1))
  for i = 1, #near do
    if near[i] == stretch.anchor then return first - i + 1 end
  end
  local place = redis.call('LPOS', list, stretch.anchor, 'RANK', -1, 'MAXLEN', first)
  return place and length - place or 0
end

-- A task's message; false if there is none, and an error if the key holds something else. Any other error is raised: while a
-- slot of a cluster migrates key by key, this server does not know what the other one has.
local function message_of(key)
  local msg = try('HGET', key, 'msg')
  if type(msg) == 'table' and not find(msg.err, 'WRONGTYPE', 1, true) then
    return redis.call('HGET', key, 'msg')
  end
  return msg
end

-- Removes the ids at these places, counted from the right end, from a list.
local function take_off(list, length, places)
  local count = #places
  if count == 0 then return end
  if places[count] == count then
    redis.call('LTRIM', list, 0, -count - 1)
    return
  end
  -- Marked first, then removed in one pass, which begins at the nearer end.
  for i = 1, count do redis.call('LSET', list, -places[i], '\0') end
  redis.call('LREM', list, 2 * places[count] < length and -count or count, '\0')
end

-- Only reads. Returns: ids, and the message of each, false or an error for an id without one; a function that removes them
-- from the list; and one that then returns the remaining stretch of unknown tasks, nil if there is none. Returns fewer than
-- requested, though there are more, when a limit was reached.
local function pick(list, prefix, most, room, takes, stretch)
  local length = try('LLEN', list)
  if type(length) == 'table' then length = keep('LLEN', list) end
  local places, ids, messages = {}, {}, {}
  local taken, seen, last, left = 0, 0, nil, LOOKS

  -- Reads ids from a place on. Returns whether there is nothing more to read.
  local function look(from, count)
    local some = redis.call('LRANGE', list, -from - count, -from - 1)
    for i = #some, 1, -1 do
      if taken == most or room <= 0 or left <= 0 then return true end
      local id, place = some[i], from + #some - i + 1
      local msg = message_of(prefix .. id)
      local text = type(msg) == 'string'
      if text and takes and not takes(msg) then
        last, left = id, left - 1 - math.floor(#msg / PORTION)
      else
        places[#places + 1], ids[#ids + 1], messages[#messages + 1] = place, id, msg
        if text then taken, room = taken + 1, room - #msg else left = left - 1 end
      end
      seen = math.max(seen, place)
    end
    return #some < count
  end

  local depth, hurried = stretch and length > 0 and depth_of(list, prefix, length, stretch) or 0, false
  if depth > 0 then
    if stretch.window > 0 or redis.call('LINDEX', list, -1) ~= stretch.front then
      local from, some = 0, math.min(math.max(stretch.window, FRONT), depth)
      -- Further while all are known: a limit may have let many go on at once.
      repeat
        local before = #ids
        look(from, some)
        local all = #ids - before == some
        from = from + some
        some = math.min(FRONT, depth - from)
        hurried = taken == most or room <= 0
      until hurried or not all or some <= 0
    end
    seen, last, left = depth, nil, LOOKS
  end
  while not hurried and taken < most and seen < length do
    local count = most - taken
    if (last or depth > 0) and count < 32 then count = 32 end
    if look(seen, count) then break end
  end

  local function take()
    take_off(list, length, places)
  end
  local function remains()
    if seen == #ids then return nil end
    local anchor = last or stretch.anchor
    return {
      seen - #ids, length - #ids, hurried and '' or redis.call('LINDEX', list, -1), anchor,
      redis.call('HGET', prefix .. anchor, 'pending_since') or '', redis.call('LINDEX', list, 0),
    }
  end
  return ids, messages, take, remains
end
