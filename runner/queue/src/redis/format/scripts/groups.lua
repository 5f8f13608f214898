-- One page of the groups of a queue that have tasks, by name; of very many groups some make up all pages.
-- KEYS: the names of the groups.
-- ARGV after the clock: queue prefix, how many to leave out, how many to show.
-- Returns: how many there are, then for each group of the page: name, how many tasks.
local queue, skip, size = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local names = some_groups(queue)
table.sort(names)
local reply, total = {0}, 0
for _, name in ipairs(names) do
  local tasks = look(0, 'ZCARD', queue .. 'g:' .. name)
  if tasks > 0 then
    total = total + 1
    if total > skip and total <= skip + size then
      reply[#reply + 1] = name
      reply[#reply + 1] = tasks
    end
  end
end
reply[1] = total
return reply
