-- Who is in the list, without giving a sign of life: lives, about, when each was seen, and the time.
local time = redis.call('TIME')
return {redis.call('HGETALL', lives), redis.call('HGETALL', about), redis.call('ZRANGE', seen, 0, -1, 'WITHSCORES'),
  time[1] * 1000 + math.floor(time[2] / 1000)}
