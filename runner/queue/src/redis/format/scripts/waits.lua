-- What a task waits for, in words, if it is a limit.
-- Needs clock.lua, guard.lua and semaphores.lua. Gives: limit_of(own, id, exact), false if it waits for none; with `exact` also how many run
-- and its place.

-- How full a gate is, and the place of a task there.
local function place_at(own, gate, id)
  local text, rule = '', look(false, 'HGET', own .. 'gates', gate) or ''
  local most = string.match(rule, '^[cm],(%d+)') or string.match(rule, '^s') and '1'
  local semaphore = semaphore_of(gate)
  if most and semaphore then
    local held = try('ZCOUNT', semaphore, whole(now), '+inf')
    text = type(held) == 'number' and held .. ' of ' .. most .. ' run, ' or 'it cannot be read here, '
  elseif most then
    text = look(0, 'ZCARD', own .. 'holders:' .. gate) .. ' of ' .. most .. ' run, '
  end
  local before = look(false, 'ZRANK', own .. 'waiters:' .. gate, id)
  if not before then return '' end
  return ': ' .. text .. 'place ' .. before + 1 .. ' of ' .. look(0, 'ZCARD', own .. 'waiters:' .. gate)
end

local function limit_of(own, id, exact)
  for line in string.gmatch(look(false, 'HGET', own .. 'gated', id) or '', '[^\n]+') do
    if string.byte(line) == 119 then
      local gate = string.sub(line, 2)
      return 'limit ' .. string.gsub(gate, '\t', ', key ') .. (exact and place_at(own, gate, id) or '')
    end
  end
  return false
end
