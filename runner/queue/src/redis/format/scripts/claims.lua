-- Who has claimed what. The hash `claims` has for each task that a worker of ours holds: the run (the number of the
-- claim), then, after a blank, when in ms and by whom. Its line without an id keeps it a table: as a short list it
-- would be searched from end to end.
-- Needs clock.lua. Gives: claimed(own, ids), is_run(field, run), outlives(queue, id, run, till), disclaim(own, ids)
-- and keep_claims(own).

-- What the hash has for each of at most 1000 ids.
local function claimed(own, ids)
  if #ids == 0 then return {} end
  local fields = try('HMGET', own .. 'claims', unpack(ids))
  if fields.err then fields = keep('HMGET', own .. 'claims', unpack(ids)) end
  return fields
end

-- Whether it is about the claim of this number. A task that no worker of ours claimed has none, which is '0'.
local function is_run(field, run)
  if not field then return run == '0' end
  return string.find(field, run, 1, true) == 1 and (string.byte(field, #run + 1) or 32) == 32
end

-- Whether a claim stands although the second has come until which it was made: its lease was extended, or nobody has
-- looked since. Otherwise a Go server may have taken the task back, which leaves our claim, and a Go worker have it.
local function outlives(queue, id, run, till)
  if of_task('HGET', queue .. 't:' .. id, 'run') == run then return true end
  local ends = keep('ZSCORE', queue .. 'lease', id)
  return not ends or tonumber(ends) == till
end

-- What no worker looks after any more goes after a month. Each extension and each look for damage puts that off: claims
-- must not go while they count.
local function keep_claims(own)
  redis.call('EXPIRE', own .. 'claims', 2592000)
  redis.call('EXPIRE', own .. 'run', 2592000)
end

-- From now on nobody's: a late settlement is refused, also when the next one to take the task is a Go worker.
local function disclaim(own, ids)
  spread('HDEL', own .. 'claims', ids)
end
