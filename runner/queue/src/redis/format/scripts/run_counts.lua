-- Counts of runs of some series.
-- KEYS: what the keys of counts begin with.
-- ARGV after the clock: seconds of a period (60 or 3600), numbers since 1970 of the first and the last period; then the names
-- of the series.
-- Returns: a list for each series: for each period that has counts its number and the counts. See add_run_counts.
local unit, first, last = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local periods = unit == '60' and 60 or 24
local reply = {}
for i = 6, #ARGV do
  local found = {}
  for group = math.floor(first / periods), math.floor(last / periods) do
    local held = look({}, 'HGETALL', KEYS[1] .. ':' .. unit .. ':' .. whole(group) .. ':' .. ARGV[i])
    for place = 1, #held, 2 do
      local nth = stored(held[place])
      local number = nth and nth >= 0 and nth < periods and group * periods + nth
      if number and number >= first and number <= last then
        found[#found + 1] = number
        found[#found + 1] = held[place + 1]
      end
    end
  end
  reply[#reply + 1] = found
end
return reply
