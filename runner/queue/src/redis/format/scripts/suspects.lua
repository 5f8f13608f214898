-- Suspects: tasks whose last run ended with its worker process. The set `suspects` names those of a queue, so that
-- claims need not ask for each task; what is known of one lies in fields of its own with the task:
--   lost   how many crashes are counted against it
--   ran    at most how long its last run took, in ms
--   crash  run that was counted last, then the count before it
--   alone  run that has its process to itself
-- Needs clock.lua. Gives: has_suspects(own), suspect(own, key, id, run, lost, ran), cleared(own, ids), FIELDS.

-- A set that lost its last true member is forgotten some time later by itself.
local SUSPECTS_KEPT = 7 * 24 * 3600

local function has_suspects(own)
  return redis.call('EXISTS', own .. 'suspects') == 1
end

-- Of a task that is known to be one.
local function suspect(own, key, id, run, lost, ran)
  local before = redis.call('HGET', key, 'lost') or '0'
  redis.call('HSET', key, 'lost', lost, 'ran', ran, 'crash', run .. ' ' .. before)
  keep('SADD', own .. 'suspects', id)
  redis.call('EXPIRE', own .. 'suspects', SUSPECTS_KEPT)
end

-- Takes ids off the list of suspects.
local function cleared(own, ids)
  if #ids > 0 and has_suspects(own) then spread('SREM', own .. 'suspects', ids) end
end
