-- Begins a term. ARGV: term, which life the node knows, a name for a new one, lease and grace period (ms).
--
-- Redis has lost its data if it has no life, or one that was begun by a node that knew none (`ignorant`): then the first
-- that knows one puts back what it knows (`restorer`, until `deadline`), and all others wait. Where no gateway was there
-- for a lease (`presence:alive`), a newcomer begins a life too, in case it was Redis that was away.
-- Answers with what to do, the life, and which run of the server it is: one that has started anew may lack what came last.
-- Whose grace period has ended while nobody looked gets another one: so they do when Redis was away.
local term, known, fresh = ARGV[1], ARGV[2], ARGV[3]
local lease, grace = tonumber(ARGV[4]), tonumber(ARGV[5])
local life, restorer, deadline, ignorant = unpack(redis.call('HMGET', base, 'life', 'restorer', 'deadline', 'ignorant'))
local must = false
if not life then
  life = fresh
  redis.call('HSET', base, 'life', life)
  must = true
elseif restorer then
  local another = string.match(restorer, '^[^/]*') ~= string.match(term, '^[^/]*')
  if another and tonumber(deadline) > now then return finish('wait') end
  must = true
elseif known ~= life and redis.call('EXISTS', base .. ':alive') == 0 then
  -- No gateway was there, so what devices have said meanwhile isn't known: they are there for a term that has ended.
  life, must = fresh, true
  redis.call('HSET', base, 'life', life)
  if redis.call('EXISTS', devices) == 1 then
    redis.call('RENAME', devices, entries(life .. '/0'))
    redis.call('SADD', terms, life .. '/0')
    tell('began', life .. '/0')
  end
elseif ignorant and known ~= life then
  must = known ~= ''
end
local verdict = 'load'
if must then
  redis.call('HDEL', base, 'restorer', 'deadline', 'ignorant')
  if known ~= '' then
    verdict = 'restore'
    redis.call('HSET', base, 'restorer', term, 'deadline', now + lease)
  else
    redis.call('HSET', base, 'ignorant', 1)
  end
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', leaving, '-inf', now)) do
  redis.call('ZADD', leaving, now + grace, member)
end
redis.call('SET', base .. ':alive', 1, 'PX', lease)
redis.call('SADD', terms, term)
tell('began', term)
return finish(verdict, life, string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'))
