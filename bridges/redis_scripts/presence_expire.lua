-- Takes out those whose grace period is over, some at a time.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', leaving, '-inf', now, 'LIMIT', 0, 100)) do remove(member) end
return finish()
