-- Spans of the future that are already decided, because the clock was ahead then: 'from..to' in whole seconds, separated
-- by spaces. Past ones are dropped when one is added, not before: only then is the clock known to be right.
-- Needs clock.lua, guard.lua. Gives: add_span(text, from, to, most) and inside(text, at).

local function each_span(text)
  return string.gmatch(text or '', '(%d+)%.%.(%d+)')
end

-- Adds a span and drops the past ones. Beyond the limit it extends the last one instead.
local function add_span(text, from, to, most)
  local spans = {}
  for first, last in each_span(text) do
    local begins, ends = stored(first), stored(last)
    if begins and ends and ends > now then spans[#spans + 1] = {begins, ends} end
  end
  if #spans < most then
    spans[#spans + 1] = {from, to}
  else
    spans[#spans] = {math.min(spans[#spans][1], from), math.max(spans[#spans][2], to)}
  end
  for nth, span in ipairs(spans) do spans[nth] = whole(span[1]) .. '..' .. whole(span[2]) end
  return table.concat(spans, ' ')
end

local function inside(text, at)
  for first, last in each_span(text) do
    if stored(first) and stored(last) and stored(first) <= at and at <= stored(last) then return true end
  end
  return false
end
