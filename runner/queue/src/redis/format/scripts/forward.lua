-- Moves tasks whose time has come to pending, or back to their group.
-- KEYS: the queue's pending list.
-- ARGV after the clock: queue prefix, own prefix, list to take from, how many at most.
-- Returns: how many were moved, how many were taken (ghosts included), lowest score left or '', 1 if that is due.
local queue, own, source = ARGV[3], ARGV[4], ARGV[3] .. ARGV[5]
local ids = keep('ZRANGE', source, '-inf', whole(now), 'BYSCORE', 'LIMIT', 0, ARGV[6])
-- Tasks that a Go server recovered from one of our workers still have its claim. Removed first: on a server that allows us
-- only asynq's keys this fails, and nothing must be lost then. And it is a removal, after which a full server of an old
-- version lets the rest of the script pass.
disclaim(own, ids)
spread('ZREM', source, ids)
local pending, moved = {}, 0
local lines = #ids > 0 and redis.call('EXISTS', own .. 'gated') == 1 and keep('HMGET', own .. 'gated', unpack(ids)) or {}

-- Whether a task waits for a limit that is looked at in time: at the end of the queue it would only be passed over.
local function waits(line)
  local gate = string.match('\n' .. (line or ''), '\nw([^\n]*)')
  return gate and keep('ZSCORE', own .. 'look', gate)
end

for i, id in ipairs(ids) do
  local key = queue .. 't:' .. id
  local held = of_task('HMGET', key, 'msg', 'group')
  if not held then
    -- The key holds something that is not a task; it is not ours to delete.
  elseif not held[1] then
    redis.call('DEL', key)
  elseif ARGV[5] == 'scheduled' and waits(lines[i]) then
    keep('ZADD', source, whole(now + 60), id)
    moved = moved + 1
  elseif held[2] and held[2] ~= '' then
    keep('ZADD', queue .. 'g:' .. held[2], whole(now), id)
    keep('SADD', queue .. 'groups', held[2])
    redis.call('HSET', key, 'state', 'aggregating')
    moved = moved + 1
  else
    pending[#pending + 1] = id
    redis.call('HSET', key, 'state', 'pending', 'pending_since', stamp)
    moved = moved + 1
  end
end
spread('LPUSH', KEYS[1], pending)
if #ids > 0 and redis.call('EXISTS', own .. 'waiting') == 1 then
  spread('HDEL', own .. 'waiting', ids)
end
local lowest = keep('ZRANGE', source, 0, 0, 'WITHSCORES')
local due = lowest[2] and tonumber(lowest[2]) <= now
return {moved, #ids, lowest[2] or '', due and 1 or 0}
