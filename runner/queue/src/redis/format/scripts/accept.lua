-- Accepts the ends of claims, and takes their tasks off the active list and the leases.
-- Needs clock.lua and claims.lua. Gives: accept(queue, own, active, ids, runs, untils, cutoff).

-- Takes ids off the active list. Tasks mostly end in the order in which they were claimed: then they are its tail, which
-- is trimmed as a whole. If an id is missing in the list, each is removed by itself.
local function leave_active(active, ids, numbers)
  local tail = try('LRANGE', active, -#ids, -1)
  if tail.err then tail = keep('LRANGE', active, -#ids, -1) end
  for i = 1, #tail do
    if not numbers[tail[i]] then
      for _, id in ipairs(ids) do keep('LREM', active, -1, id) end
      return
    end
  end
  redis.call('LTRIM', active, 0, -(#tail + 1))
end

-- Returns which of at most 1000 claims on tasks of one queue hold: their ids, the index of each by id, and the indexes of
-- the others. untils: the second in which each lease ends or was first to end. With a cutoff (whole seconds) instead only
-- claims hold whose lease ended until then. An id is accepted once: a second settlement in the same call is stale.
-- The first write is a removal, so that a full server of an old version lets the rest of the script pass.
local function accept(queue, own, active, ids, runs, untils, cutoff)
  local fields, lease = claimed(own, ids), queue .. 'lease'
  local held, numbers, stale = {}, {}, {}
  -- Claims made together have the same value.
  local run, field
  for number = 1, #ids do
    local id = ids[number]
    if (runs[number] ~= run or fields[number] ~= field) and is_run(fields[number], runs[number]) then
      run, field = runs[number], fields[number]
    end
    if runs[number] == run and fields[number] == field and not numbers[id]
      and (cutoff or now < untils[number] or outlives(queue, id, run, untils[number])) then
      held[#held + 1] = id
      numbers[id] = number
    else
      stale[#stale + 1] = number
    end
  end
  if #held == 0 then return held, numbers, stale end

  local ended = held
  local unleased = cutoff or try('ZREM', lease, unpack(held))
  if type(unleased) == 'table' then unleased = keep('ZREM', lease, unpack(held)) end
  if cutoff or unleased < #held then
    local ends = cutoff and keep('ZMSCORE', lease, unpack(held)) or {}
    ended = {}
    for i, id in ipairs(held) do
      local lasts = ends[i] and tonumber(ends[i]) > cutoff
      if not lasts and of_task('HGET', queue .. 't:' .. id, 'state') == 'active' then
        ended[#ended + 1] = id
      else
        stale[#stale + 1] = numbers[id]
        numbers[id] = nil
      end
    end
    if cutoff then
      spread('ZREM', lease, ended)
      held = ended
    end
  end
  if #ended > 0 then leave_active(active, ended, numbers) end
  disclaim(own, held)
  return ended, numbers, stale
end
