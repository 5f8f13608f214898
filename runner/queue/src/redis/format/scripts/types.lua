-- The type of a task, from its message, and whether the caller knows it.
-- Needs clock.lua. Gives:
--   known      the beginning of messages whose type the caller was last found to know, or false. Neighbours are mostly of
--              one type, so a loop over messages compares this first: a call for each would cost a few per cent of a claim.
--   types(at)  reads the known types from ARGV: '' for every type, else the exact names, each between zero bytes, or the
--              key of a set of them; the exceptions from the prefixes likewise; how many prefixes; the prefixes. Returns
--              a function that returns whether a message may be taken, nil for all; where ARGV continues; and whether a
--              set is missing: then nothing may be taken.
local byte, sub = string.byte, string.sub
local known = false

-- Reads a varint. Returns the number and where it ends; nil if it has no end.
local function varint(msg, at)
  local number, factor = 0, 1
  for i = at, at + 9 do
    local digit = byte(msg, i)
    if not digit then return nil end
    number = number + digit % 128 * factor
    if digit < 128 then return number, i + 1 end
    factor = factor * 128
  end
end

-- The type in a message whose fields are in any order; nil if it has none or is unreadable.
local function scanned(msg)
  local at = 1
  for _ = 1, 64 do
    local tag, size
    tag, at = varint(msg, at)
    if not tag then return nil end
    local wire = tag % 8
    if wire == 2 then
      size, at = varint(msg, at)
      if not size or at + size - 1 > #msg then return nil end
      if tag == 10 then return sub(msg, at, at + size - 1) end
      at = at + size
    elseif wire == 0 then
      size, at = varint(msg, at)
      if not size then return nil end
    elseif wire == 1 then
      at = at + 8
    elseif wire == 5 then
      at = at + 4
    else
      return nil
    end
  end
end

-- Most encoders write the type first, and it is short.
local function kind_of(msg)
  local tag, size = byte(msg, 1, 2)
  if tag == 10 and size and size < 128 and #msg >= size + 2 then return sub(msg, 3, size + 2) end
  return scanned(msg)
end

-- Whether bytes are UTF-8. Otherwise they are not a type, and no reader can decode the message.
local function is_text(bytes)
  if not string.find(bytes, '[\128-\255]') then return true end
  for _, valid in ipairs({
    '[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]',
    '\237[\128-\159][\128-\191]', '\240[\144-\191][\128-\191][\128-\191]',
    '[\241-\243][\128-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]',
  }) do
    bytes = string.gsub(bytes, valid, ' ')
  end
  return not string.find(bytes, '[\128-\255]')
end

local function types(at)
  local names, except, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first = at + 3
  if names == '' then return nil, first + count end
  for _, list in ipairs({names, except}) do
    -- This member is written last.
    if byte(list) ~= 0 and keep('SISMEMBER', list, '\255') ~= 1 then return nil, first + count, true end
  end

  local function has(list, kind)
    if byte(list) ~= 0 then return redis.call('SISMEMBER', list, kind) == 1 end
    return string.find(list, '\0' .. kind .. '\0', 1, true)
  end

  -- A task with an unreadable type is claimed, so that it is archived.
  local function knows(kind)
    if has(names, kind) then return true end
    if not has(except, kind) then
      for i = first, first + count - 1 do
        if sub(kind, 1, #ARGV[i]) == ARGV[i] then return true end
      end
    end
    return not is_text(kind)
  end

  local asked = {}
  return function(msg)
    if known and find(msg, known, 1, true) == 1 then return true end
    local kind = kind_of(msg)
    if not kind then return true end
    local answer = asked[kind]
    if answer == nil then
      answer = knows(kind)
      asked[kind] = answer
    end
    if answer and #kind < 128 and sub(msg, 3, #kind + 2) == kind and byte(msg, 1) == 10 then
      known = sub(msg, 1, #kind + 2)
    end
    return answer
  end, first + count
end
