-- Adds a workflow to the lists, or takes it off that of the open ones.
-- KEYS: the list of all, the list of the open ones; both by when a workflow was stored, in ms.
-- ARGV after the clock: how many ms old ones are listed, 'add' or 'end', when those to add were stored or '' for now, ids.
-- Returns: 1.
local since = ARGV[5] ~= '' and ARGV[5] or whole(millis)
for at = 6, #ARGV do
  if ARGV[4] == 'add' then
    keep('ZADD', KEYS[1], since, ARGV[at])
    keep('ZADD', KEYS[2], since, ARGV[at])
  else
    keep('ZREM', KEYS[2], ARGV[at])
  end
end
-- Those that are open stay on their list; readers take off what is gone.
keep('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(millis - tonumber(ARGV[3])))
return 1
