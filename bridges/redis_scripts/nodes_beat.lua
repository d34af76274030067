-- A sign of life. ARGV besides: lease (ms), what it says of itself. Takes out those that gave none for a lease, and
-- answers with all others: listed, whether for a lease nobody can have been missed, lives, about; or, if another process
-- has the name: taken, what that says of itself, how many signs it gave.
local lease = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('HGET', base, 'beat') or 0)
redis.call('HSET', base, 'beat', now)
if now < last or now - last > lease / 2 then
  -- Nobody was heard, so it was Redis that was away, or its clock that jumped: all get a lease to come back.
  redis.call('HSET', base, 'since', now)
  for _, node in ipairs(redis.call('ZRANGE', seen, 0, -1)) do redis.call('ZADD', seen, now, node) end
end
for _, node in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', '(' .. now - lease)) do forget(node) end
local holder = redis.call('HGET', lives, name)
if holder and holder ~= life then
  return {'taken', redis.call('HGET', about, name), redis.call('HGET', beats, name)}
end
if not holder then
  redis.call('HSET', lives, name, life)
  redis.call('HSET', about, name, '{"since":' .. string.format('%.3f', now / 1000) .. ',' .. string.sub(ARGV[4], 2))
  redis.call('SPUBLISH', base, name)
end
redis.call('ZADD', seen, now, name)
redis.call('HINCRBY', beats, name, 1)
local settled = now - redis.call('HGET', base, 'since') > lease
return {'listed', settled and 1 or 0, redis.call('HGETALL', lives), redis.call('HGETALL', about)}

