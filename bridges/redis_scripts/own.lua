-- A node has become an upstream's owner: what comes under an older token is refused from now on.
-- KEYS[1] meta. ARGV: upstream, token. Answers with the packets that are stored and not known to be acknowledged; with
-- nothing if there is a later owner already.
local fence = 'fence:' .. ARGV[1]
if tonumber(redis.call('HGET', KEYS[1], fence) or 0) > tonumber(ARGV[2]) then return false end
redis.call('HSET', KEYS[1], fence, ARGV[2])
return redis.call('HGETALL', string.sub(KEYS[1], 1, -5) .. 'receipts:' .. ARGV[1])
