-- Messages with their long texts cut, so that a list of large tasks stays small.
-- Gives: field_length(key, field), cut(msg, most) and head(key, field, most, limit).

-- Length of a hash field in bytes; -1 if the key is not a hash.
local function field_length(key, field)
  local length = redis.pcall('HSTRLEN', key, field)
  return type(length) == 'number' and length or -1
end

-- Reads a protobuf varint. Returns the number and where it ends; nothing if the text ends first.
local function read_varint(text, at)
  local number, factor = 0, 1
  for place = at, at + 9 do
    local byte = string.byte(text, place)
    if not byte then return nil end
    number = number + byte % 128 * factor
    if byte < 128 then return number, place + 1 end
    factor = factor * 128
  end
end

local function write_varint(number)
  local text = ''
  while number > 127 do
    text = text .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return text .. string.char(number)
end

-- The message with type, payload and error of at most a number of bytes each, and the length of the payload. From the first
-- unreadable byte on it is left unchanged.
local function cut(msg, most)
  local parts, from, at, payload = {}, 1, 1, 0
  for _ = 1, 1000 do
    local tag, value = read_varint(msg, at)
    if not tag then break end
    local number, after = read_varint(msg, value)
    if not number then break end
    if tag % 8 == 2 then
      local stop = after + number
      if stop > #msg + 1 then break end
      if tag == 18 then payload = number end
      if number > most and (tag == 10 or tag == 18 or tag == 58) then
        local last = after + most - 1
        -- Cut texts end with a whole character.
        while tag ~= 18 and last > after and string.byte(msg, last + 1) >= 128 and string.byte(msg, last + 1) < 192 do
          last = last - 1
        end
        parts[#parts + 1] = string.sub(msg, from, value - 1)
        parts[#parts + 1] = write_varint(last - after + 1)
        parts[#parts + 1] = string.sub(msg, after, last)
        from = stop
      end
      at = stop
    elseif tag % 8 == 0 then
      at = after
    else
      break
    end
  end
  parts[#parts + 1] = string.sub(msg, from)
  return table.concat(parts), payload
end

-- The first bytes of a field and its length; no bytes if it is longer than the limit.
local function head(key, field, most, limit)
  local length = field_length(key, field)
  if length <= 0 or length > limit then return '', length end
  return string.sub(redis.call('HGET', key, field), 1, most), length
end
