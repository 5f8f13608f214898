-- Remembering the attempts of a task: a line each in its field `att`, oldest first.
-- Gives: remember(key, line, most), where most, if there is one, is how many to keep, at least two.

local function remember(key, line, most)
  local lines = redis.call('HGET', key, 'att')
  if not lines then
    redis.call('HSET', key, 'att', line)
    return
  end
  local _, breaks = string.gsub(lines, '\n', '')
  local from = 1
  for _ = most or breaks + 2, breaks + 1 do
    from = string.find(lines, '\n', from, true) + 1
  end
  redis.call('HSET', key, 'att', string.sub(lines, from) .. '\n' .. line)
end
