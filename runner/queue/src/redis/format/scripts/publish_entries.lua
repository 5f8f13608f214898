-- Replaces the entries of a scheduler that other tools see.
-- KEYS: its list of entries.
-- ARGV after the clock: seconds to keep them; then the entries.
redis.call('DEL', KEYS[1])
local entries = {}
for i = 4, #ARGV do entries[#entries + 1] = ARGV[i] end
spread('LPUSH', KEYS[1], entries)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return #entries
