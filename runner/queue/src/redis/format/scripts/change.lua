-- What an operator does to tasks that were taken out of the list of their state.
-- Needs clock.lua, claims.lua, forget.lua, trim.lua and gates.lua. Gives: change(queue, own, state, action, ids, most).

-- `action` is 'run', 'archive' or 'delete'; `most` bounds how many old tasks leave the archive in turn.
local function change(queue, own, state, action, ids, most)
  if action == 'delete' then
    forget(queue, own, ids)
    leave_gates(queue, own, ids)
    return
  end
  if state == 'scheduled' then spread('HDEL', own .. 'waiting', ids) end
  if action == 'run' then
    for _, id in ipairs(ids) do
      redis.call('HSET', queue .. 't:' .. id, 'state', 'pending', 'pending_since', stamp)
      redis.call('HDEL', queue .. 't:' .. id, 'result')
    end
    disclaim(own, ids)
    spread('LPUSH', queue .. 'pending', ids)
  else
    local rows = {}
    for _, id in ipairs(ids) do
      redis.call('HSET', queue .. 't:' .. id, 'state', 'archived')
      rows[#rows + 1] = whole(now)
      rows[#rows + 1] = id
    end
    spread('ZADD', queue .. 'archived', rows)
    leave_gates(queue, own, ids)
    trim(queue, own, most)
  end
end
