-- Decides whether a task may be claimed now, by the limits that the caller knows.
-- Needs clock.lua, types.lua, semaphores.lua and gates.lua. Gives: admission(text, lease), which returns nil without limits, else
-- three functions:
--   admit(queue, own, id, msg)  nil: it may, and it has passed its gates. 'skip' and the gate: it is not to be run. Else 'wait' and
--                               how many waited there before it: it is a waiter now, and is to be scheduled.
--   opened(queue, own)          to call after the last one of a queue: lets those go on that others made room for
--   parked()                    how many have to wait
-- text: a line break, then for each type: its name (after byte 2 if it is the beginning of names; byte 1 and the name of a
-- queue), then for each limit a tab, letter, two numbers, w or s, and the path of its key, with commas between, then a line break.
-- Behind the path of a semaphore are byte 3 and its scope. lease: the second in which those of the claimed tasks end.

-- Keys that are longer, or no plain text, go by their digest.
local LONGEST_KEY = 128

local WORDS = {c = 'concurrency', m = 'semaphore', r = 'rate', s = 'sequence'}

-- Field 2 of a message.
local function payload_of(msg)
  local at = 1
  for _ = 1, 64 do
    local tag, size
    tag, at = varint(msg, at)
    if not tag then return '' end
    size, at = varint(msg, at)
    if not size then return '' end
    if tag == 18 then return string.sub(msg, at, at + size - 1) end
    if tag % 8 == 2 then
      at = at + size
    elseif tag % 8 ~= 0 then
      return ''
    end
  end
  return ''
end

-- What a payload has at a path; '' for a payload that has no text, number or truth value there.
local function key_in(value, path)
  for part in string.gmatch(path, '[^.]+') do
    if type(value) ~= 'table' then return '' end
    value = value[part]
  end
  local kind = type(value)
  if kind == 'number' then
    value = string.format('%.17g', value)
  elseif kind == 'boolean' then
    value = tostring(value)
  elseif kind ~= 'string' then
    return ''
  end
  if #value > LONGEST_KEY or string.find(value, '%c') then value = redis.sha1hex(value) end
  return value
end

local function admission(text, lease)
  if text == '' then return nil end
  local by_kind, at_gates, opened_gates, waiting = {}, {}, {}, 0

  -- The limits in a line that begins with these bytes.
  local function add_line(list, head, of)
    local _, from = find(text, '\n' .. head .. '\t', 1, true)
    if not from then return false end
    local line = string.sub(text, from, (find(text, '\n', from, true) or #text + 1) - 1)
    for letter, a, b, mode, path in string.gmatch(line, '\t(%a),([^,]*),([^,]*),(%a),([^\t]*)') do
      local scope, name, stated = of, WORDS[letter], false
      if letter == 'm' then path, scope = string.match(path, '^([^\3]*)\3(.*)$') end
      if scope ~= '' then name = name .. ' ' .. scope end
      if letter == 'm' then
        -- One of the type and of its queue is one.
        for _, other in ipairs(list) do stated = stated or other.name == name and other.path == path end
      end
      if not stated then
        list[#list + 1] = {
          name = name, path = path, skips = mode == 's', text = letter .. ',' .. a .. ',' .. b,
          rule = gate_rule(letter .. ',' .. a .. ',' .. b),
        }
      end
    end
    return true
  end

  local PLACES = {s = 0, c = 1, m = 2, r = 3}

  local function limits_of(queue, kind)
    local known = by_kind[queue .. kind]
    if known ~= nil then return known end
    local list = {}
    if find(kind, '%c') == nil and not add_line(list, kind, kind) and find(text, '\n\2', 1, true) then
      local longest
      for prefix in string.gmatch(text, '\n\2([^\t\n]*)\t') do
        if string.sub(kind, 1, #prefix) == prefix and #prefix >= #(longest or '') then longest = prefix end
      end
      if longest then add_line(list, '\2' .. longest, longest .. '*') end
    end
    add_line(list, '\1' .. string.match(queue, '{(.*)}'), '')
    -- An order is kept while a task waits at the others, and a rate comes last: what it lets pass is used up.
    for i, limit in ipairs(list) do limit.place = PLACES[limit.rule.letter] * 100 + i end
    table.sort(list, function(a, b) return a.place < b.place end)
    by_kind[queue .. kind] = #list > 0 and list or false
    return by_kind[queue .. kind]
  end

  -- What this call knows of a gate.
  local function gate_at(queue, own, name, limit)
    local gate = at_gates[own .. name]
    if gate then
      -- A place may be taken at another gate with the same semaphore.
      if limit.rule.letter == 'm' and gate.free > 0 then gate.free = free_at(queue, own, name, limit.rule) end
      return gate
    end
    gate = {name = name, limit = limit}
    gate.free, gate.again = free_at(queue, own, name, limit.rule)
    gate.waiters = keep('ZCARD', own .. 'waiters:' .. name)
    at_gates[own .. name] = gate
    return gate
  end

  local function has(lines, line)
    return lines and find('\n' .. lines .. '\n', '\n' .. line .. '\n', 1, true)
  end

  -- Whether there is room for a task: more than those need that wait before it. turn: its place among all that wait in the queue,
  -- which it keeps when it has to wait at another gate. With an order of its own at each gate, tasks that need two would keep
  -- going to the end of the other one, and none would pass.
  local function passes(queue, own, gate, id, waits, turn)
    local function fits()
      local before = waits and keep('ZRANK', own .. 'waiters:' .. gate.name, id)
        or turn and keep('ZCOUNT', own .. 'waiters:' .. gate.name, '-inf', '(' .. turn) or gate.waiters
      return before < gate.free
    end
    if fits() then return true end
    if gate.free <= 0 or gate.checked then return false end
    -- Some may be gone; the others are to come.
    gate.checked = true
    go_on(queue, own, gate.name, gate.free)
    gate.waiters = keep('ZCARD', own .. 'waiters:' .. gate.name)
    return fits()
  end

  local function note(own, gate)
    if gate.noted then return end
    gate.noted = true
    keep('HSET', own .. 'gates', gate.name, gate.limit.text)
  end

  local function leave(own, id, gate)
    if keep('ZREM', own .. 'waiters:' .. gate.name, id) == 1 then gate.waiters = gate.waiters - 1 end
  end

  local function pass(own, id, gate, waits)
    local rule = gate.limit.rule
    if rule.letter == 'r' then
      local tat = tonumber(keep('GET', own .. 'tat:' .. gate.name) or '') or 0
      local lead = rule.b * rule.a
      tat = math.min(math.max(tat, millis), millis + lead) + rule.a
      redis.call('SET', own .. 'tat:' .. gate.name, string.format('%.17g', tat), 'PX', whole(tat - millis + lead + 1000))
    else
      keep('ZADD', own .. 'holders:' .. gate.name, whole(millis), id)
      if rule.letter == 'm' then hold_place(gate.name, id, lease) end
    end
    if rule.letter ~= 'r' or gate.waiters > 0 then note(own, gate) end
    gate.free = gate.free - 1
    if waits then leave(own, id, gate) end
  end

  local function look_by(own, gate, again)
    gate.looked = true
    local first = keep('ZRANGE', own .. 'look', 0, 0, 'WITHSCORES')
    keep('ZADD', own .. 'look', 'LT', whole(again), gate.name)
    -- Workers sleep until they have to look: this may be sooner. Without the right to publish they wake up later.
    if not first[2] or again < tonumber(first[2]) then try('PUBLISH', 'runner:delayed', '') end
  end

  local function wait(own, id, gate, waits, turn)
    note(own, gate)
    local key, before = own .. 'waiters:' .. gate.name, gate.waiters
    local rank = waits and keep('ZRANK', key, id)
    if rank then
      before = rank
    else
      gate.waiters = gate.waiters + 1
      keep('ZADD', key, turn or next_turn(own), id)
    end
    if not gate.looked then look_by(own, gate, gate.again) end
    waiting = waiting + 1
    return before
  end

  -- Where a task waited and does not wait any more, others may go on.
  local function leave_others(own, id, lines, but)
    for line in string.gmatch(lines or '', '[^\n]+') do
      local name = string.sub(line, 2)
      if string.byte(line) == 119 and name ~= but then
        keep('ZREM', own .. 'waiters:' .. name, id)
        local gate = at_gates[own .. name]
        if gate then gate.waiters = keep('ZCARD', own .. 'waiters:' .. name) end
        opened_gates[own .. name] = name
      end
    end
  end

  local function write_lines(own, id, lines, before)
    if #lines > 0 then
      keep('HSET', own .. 'gated', id, table.concat(lines, '\n'))
    elseif before then
      keep('HDEL', own .. 'gated', id)
    end
  end

  -- Whether a task has a place of a semaphore from an earlier try, here or in Go, that is not over. It counts already.
  local function has_place(gate, id)
    if gate.limit.rule.letter ~= 'm' or not at_semaphore('ZSCORE', semaphore_of(gate.name), id) then return false end
    gate.free = gate.free + 1
    return true
  end

  -- A place was taken and others wait: the next one may be given back by another program.
  local function look_soon(queue, own, gate)
    if gate.limit.rule.letter ~= 'm' or gate.waiters == 0 or gate.looked then return end
    local _, again = free_at(queue, own, gate.name, gate.limit.rule)
    look_by(own, gate, again)
  end

  local function admit(queue, own, id, msg)
    local list = limits_of(queue, kind_of(msg) or '')
    if not list then return nil end
    local before, payload = keep('HGET', own .. 'gated', id), nil
    local held, ready, turn = {}, {}, nil
    for line in string.gmatch(before or '', '[^\n]+') do
      if string.byte(line) == 119 then turn = keep('ZSCORE', own .. 'waiters:' .. string.sub(line, 2), id) or turn end
    end
    for _, limit in ipairs(list) do
      local name = limit.name
      if limit.path ~= '' then
        if payload == nil then
          local fine, found = pcall(cjson.decode, payload_of(msg))
          payload = fine and found or false
        end
        local key = key_in(payload, limit.path)
        if key ~= '' then name = name .. '\t' .. key end
      end
      if limit.rule.letter ~= 'm' and has(before, 'h' .. name) then
        held[#held + 1] = 'h' .. name
      else
        local gate, waits = gate_at(queue, own, name, limit), has(before, 'w' .. name)
        if not has_place(gate, id) and not passes(queue, own, gate, id, waits, turn) then
          if limit.skips then
            leave_others(own, id, before)
            -- For the case that the answer does not arrive: see unanswered.lua.
            held[#held + 1] = 'x' .. name
            write_lines(own, id, held, before)
            return 'skip', (string.gsub(name, '\t', ', key '))
          end
          leave_others(own, id, before, name)
          local ahead = wait(own, id, gate, waits, turn)
          held[#held + 1] = 'w' .. name
          write_lines(own, id, held, before)
          return 'wait', ahead
        end
        if limit.rule.letter == 's' then
          pass(own, id, gate, waits)
          held[#held + 1] = 'h' .. name
        else
          ready[#ready + 1] = {gate, waits}
        end
      end
    end
    let_in[id] = true
    for _, one in ipairs(ready) do
      pass(own, id, one[1], one[2])
      look_soon(queue, own, one[1])
      if one[1].limit.rule.letter ~= 'r' then held[#held + 1] = 'h' .. one[1].name end
    end
    leave_others(own, id, before, ready[1] and ready[#ready][1].name)
    write_lines(own, id, held, before)
    return nil
  end

  local function opened(queue, own)
    for key, name in pairs(opened_gates) do
      if string.sub(key, 1, #own) == own then
        opened_gates[key] = nil
        look_at(queue, own, name)
        at_gates = {}
      end
    end
  end

  return admit, opened, function() return waiting end
end
