-- One page of the tasks of a queue in one state.
-- KEYS: the queue's pending list (names the slot).
-- ARGV after the clock: queue prefix, own prefix, state, how many to leave out, how many to show, group
-- or '' (all, of very many groups some), how many bytes of long texts, messages of how many bytes are not read here.
-- Ended tasks are newest first, all others in the order of their turn.
-- Needs cut.lua and waits.lua. Returns: how many there are, then for each task: id, score of its place or '', message with long texts
-- cut or '' if it is not read, its bytes (-1 if there is no task of this id), bytes of its payload, pending_since, result
-- as far as it is shown, its bytes, what it waits for ('' for what is missing).
local queue, own, state = ARGV[3], ARGV[4], ARGV[5]
local skip, size = tonumber(ARGV[6]), tonumber(ARGV[7])
local rows, total = {}, 0

local function from_set(key, offset, most, range)
  local found = look({}, range or 'ZRANGE', key, offset, offset + most - 1, 'WITHSCORES')
  for i = 1, #found, 2 do rows[#rows + 1] = {found[i], found[i + 1]} end
  return #found / 2
end

if state == 'pending' or state == 'active' then
  -- The right end is the oldest.
  total = look(0, 'LLEN', queue .. state)
  local ids = look({}, 'LRANGE', queue .. state, -(skip + size), -(skip + 1))
  for i = #ids, 1, -1 do
    local score = state == 'active' and look(false, 'ZSCORE', queue .. 'lease', ids[i])
    rows[#rows + 1] = {ids[i], score or ''}
  end
elseif state == 'aggregating' then
  local groups = {ARGV[8]}
  if ARGV[8] == '' then groups = some_groups(queue) end
  table.sort(groups)
  for _, group in ipairs(groups) do
    local key = queue .. 'g:' .. group
    local there = look(0, 'ZCARD', key)
    if #rows < size and skip < total + there then
      from_set(key, math.max(skip - total, 0), size - #rows)
    end
    total = total + there
  end
else
  total = look(0, 'ZCARD', queue .. state)
  from_set(queue .. state, skip, size, (state == 'archived' or state == 'completed') and 'ZREVRANGE')
end

local reply, most, limit = {total}, tonumber(ARGV[9]), tonumber(ARGV[10])
local function add(value) reply[#reply + 1] = value end
for _, row in ipairs(rows) do
  local key, msg, payload = queue .. 't:' .. row[1], '', 0
  local bytes = field_length(key, 'msg')
  if bytes == 0 and redis.call('EXISTS', key) == 0 then bytes = -1 end
  if bytes > 0 and bytes <= limit then msg, payload = cut(redis.call('HGET', key, 'msg'), most) end
  local result, length, since = '', 0, ''
  if bytes >= 0 then
    result, length = head(key, 'result', most, limit)
    since = redis.call('HGET', key, 'pending_since') or ''
  end
  add(row[1])
  add(row[2])
  add(msg)
  add(bytes)
  add(payload)
  add(since)
  add(result)
  add(length)
  add(state == 'scheduled' and (look(false, 'HGET', own .. 'waiting', row[1]) or limit_of(own, row[1])) or '')
end
return reply
