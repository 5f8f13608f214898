-- Second of three steps of a commit in a cluster: enqueues occurrences of one schedule in one queue, each once.
-- KEYS: the queue's pending list (names the slot).
-- ARGV after the clock: queue prefix, own prefix, schedule, the overlap policy (see decide.lua), instance, last second at
-- which this may run, seconds to remember the decisions, previous task's id or '', its key if it is of this queue
-- or '', else what it does (see busy) or '', the same three of the last manual run; then for each fire: nominal instant,
-- '1' if it is late, task id, message, lock key or '', lock ttl in ms, when, group, headers to keep beside the message or
-- ''.
-- Returns: 'done' and a decision in JSON for each fire; 'late'.
-- Decisions are remembered beside the tasks, so that a repeated call gives the same answer. A call that comes after they
-- were forgotten must not run: hence the last second.
local queue, own, id, instance = ARGV[3], ARGV[4], ARGV[5], ARGV[7]
if now > tonumber(ARGV[8]) then return {'late'} end
local previous, key, elsewhere = ARGV[10], ARGV[11], ARGV[12]
local manual = ARGV[13]

-- The remembered decision about an occurrence, if readable.
local function known(text, nominal)
  local fine, found = pcall(cjson.decode, text or '')
  if not fine or type(found) ~= 'table' then return nil end
  local kinds = {fired = true, skipped = true, missed = true}
  fine = found.s == id and found.n == tonumber(nominal) and kinds[found.k] and type(found.r) == 'string'
    and type(found.i) == 'string' and type(found.c) == 'number' and found.c == math.floor(found.c)
    and found.c >= 0 and found.c < 4294967296 and type(found.d) == 'string' and find(found.d, '^%d+$') and #found.d < 20
  return fine and found.k, found.t
end

local reply = {'done'}
for i = 16, #ARGV, 9 do
  local nominal = ARGV[i]
  local mark = own .. 'fire:' .. id .. '@' .. nominal
  local text = look(false, 'GET', mark)
  if not known(text, nominal) then
    local what, by
    if ARGV[6] ~= 'allow' then
      what, by = elsewhere ~= '' and elsewhere or busy(key, previous, queue, ARGV[6]), previous
      if not what then what, by = ARGV[15] ~= '' and ARGV[15] or busy(ARGV[14], manual, queue, ARGV[6]), manual end
    end
    if what then
      text = overlaps(id, instance, nominal, by, what, ARGV[6])
    else
      text = enqueue(id, instance, queue, {unpack(ARGV, i, i + 8)})
    end
    redis.call('SET', mark, text, 'EX', ARGV[9])
  end
  local kind, task = known(text, nominal)
  if kind == 'fired' then
    -- The task that waited, if this one took its place.
    if type(task) ~= 'string' then task = ARGV[i + 2] end
    previous, key, elsewhere = task, queue .. 't:' .. task, ''
  end
  reply[#reply + 1] = text
end
return reply
