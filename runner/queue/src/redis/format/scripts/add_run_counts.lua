-- Adds counts of runs to a minute and to its hour.
-- KEYS: what the keys of counts begin with.
-- ARGV after the clock: how many seconds ago, for how many seconds minutes and hours are kept, how many series are counted
-- on a day; then for each series: its name, its counts.
-- Returns: how many series were left out.
-- Counts are a text: a letter and a number for each. One hash has the minutes of a series in an hour, another one its hours
-- of a day; a set has the names of the series of a day.
local prefix, at = KEYS[1], now - tonumber(ARGV[3])
local day = whole(at / 86400)
local names, most = prefix .. ':series:' .. day, tonumber(ARGV[6])

-- A number beyond this is no count.
local LARGEST = 4503599627370496

local function add_to(sums, text)
  for letter, digits in string.gmatch(text, '(%a)(%d+)') do
    local n = stored(digits)
    if n and n <= LARGEST then sums[letter] = math.min((sums[letter] or 0) + n, LARGEST) end
  end
end

local function add(key, field, counts, kept_for)
  local sums, text = {}, ''
  add_to(sums, keep('HGET', key, field) or '')
  add_to(sums, counts)
  for letter, n in pairs(sums) do text = text .. letter .. whole(n) end
  redis.call('HSET', key, field, text)
  redis.call('EXPIRE', key, kept_for)
end

-- The total is no series of a day.
local function has_room(series)
  if series == 'a' or keep('SISMEMBER', names, series) == 1 then return true end
  if redis.call('SCARD', names) >= most then return false end
  redis.call('SADD', names, series)
  redis.call('EXPIRE', names, 172800)
  return true
end

local left_out = 0
for i = 7, #ARGV, 2 do
  local series, counts = ARGV[i], ARGV[i + 1]
  if has_room(series) then
    local minutes = prefix .. ':60:' .. whole(at / 3600) .. ':' .. series
    add(minutes, whole(at / 60) % 60, counts, ARGV[4])
    add(prefix .. ':3600:' .. day .. ':' .. series, whole(at / 3600) % 24, counts, ARGV[5])
  else
    left_out = left_out + 1
  end
end
return left_out
