-- Puts back members as a node knew them, for a lease and a grace period: whoever is there is entered anew meanwhile.
-- ARGV: term, lease and grace period (ms), then for each: member, state, source of a device or nothing.
local term, lease, grace = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('HGET', base, 'restorer') ~= term then return finish('ended') end
redis.call('HSET', base, 'deadline', now + lease)
for at = 4, #ARGV, 3 do
  local member, state, source = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if redis.call('HEXISTS', members, member) == 0 then
    add(member, state)
    redis.call('ZADD', leaving, now + lease + grace, member)
  end
  if source ~= '' and redis.call('SADD', devices, member .. '\0' .. source) == 1 then
    redis.call('HINCRBY', counts, member, 1)
    redis.call('ZREM', leaving, member)
    tell('appear', member, source)
  end
end
return finish('taken')
