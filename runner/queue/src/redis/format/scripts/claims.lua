-- The claims. The hash `claims` has for each task that one of our workers holds: the run (the number of the claim), then,
-- after a blank, when in ms and by whom. Its field without an id keeps it a hash table: as a listpack it would be
-- searched from end to end.
-- Needs clock.lua. Gives: claimed(own, ids), is_run(field, run), outlives(queue, id, run, till), disclaim(own, ids)
-- and keep_claims(own).

-- The values of the hash for at most 1000 ids.
local function claimed(own, ids)
  if #ids == 0 then return {} end
  local fields = try('HMGET', own .. 'claims', unpack(ids))
  if fields.err then fields = keep('HMGET', own .. 'claims', unpack(ids)) end
  return fields
end

-- Whether a value belongs to the claim with this number. A task that none of our workers claimed has none, or '0'.
local function is_run(field, run)
  if not field then return run == '0' end
  return string.find(field, run, 1, true) == 1 and (string.byte(field, #run + 1) or 32) == 32
end

-- Whether a claim holds although its first lease is over: the lease was extended, or has not been checked since.
-- Otherwise a Go server may have recovered the task, which leaves our claim behind, and a Go worker may have it.
local function outlives(queue, id, run, till)
  if of_task('HGET', queue .. 't:' .. id, 'run') == run then return true end
  local ends = keep('ZSCORE', queue .. 'lease', id)
  return not ends or tonumber(ends) == till
end

-- Unused claims expire after a month. Each extension and each repair pass postpones that: claims must not expire while
-- they count.
local function keep_claims(own)
  redis.call('EXPIRE', own .. 'claims', 2592000)
  redis.call('EXPIRE', own .. 'run', 2592000)
end

-- Removes claims: a late settlement is then refused, even if a Go worker takes the task next.
local function disclaim(own, ids)
  spread('HDEL', own .. 'claims', ids)
end
