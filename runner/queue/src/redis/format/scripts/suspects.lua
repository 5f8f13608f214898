-- Suspects: tasks whose last run ended with its worker process. The set `suspects` names those of a queue, so that claims
-- need not read each task; the details of one are in additional fields of the task:
--   lost   how many crashes are counted against it
--   ran    at most how long its last run took, in ms
--   crash  run that was counted last, then the count before it
--   alone  run that has its process to itself
-- Needs clock.lua. Gives: has_suspects(own), suspect(own, key, id, run, lost, ran), cleared(own, ids), FIELDS.

-- A set without true members expires after some time.
local SUSPECTS_KEPT = 7 * 24 * 3600

local function has_suspects(own)
  return redis.call('EXISTS', own .. 'suspects') == 1
end

-- For a key that is known to be a task.
local function suspect(own, key, id, run, lost, ran)
  local before = redis.call('HGET', key, 'lost') or '0'
  redis.call('HSET', key, 'lost', lost, 'ran', ran, 'crash', run .. ' ' .. before)
  keep('SADD', own .. 'suspects', id)
  redis.call('EXPIRE', own .. 'suspects', SUSPECTS_KEPT)
end

-- Removes ids from the suspects.
local function cleared(own, ids)
  if #ids > 0 and has_suspects(own) then spread('SREM', own .. 'suspects', ids) end
end
