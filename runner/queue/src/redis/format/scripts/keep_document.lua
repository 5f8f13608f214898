-- Stores a document, or extends the life of the existing one.
-- KEYS: the index of its kind, the document.
-- ARGV after the clock: name, seconds to keep it; then the document, unless the existing one is to stay.
-- Returns: 1, or 0 if there is none.
keep('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[5] then
  redis.call('SET', KEYS[2], ARGV[5], 'EX', ARGV[4])
else
  -- A value of another type is moved away: then there is none, and the caller stores it again.
  keep('STRLEN', KEYS[2])
  if redis.call('EXPIRE', KEYS[2], ARGV[4]) == 0 then return 0 end
end
redis.call('ZADD', KEYS[1], whole(now + tonumber(ARGV[4])), ARGV[3])
return 1
