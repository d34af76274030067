-- All that a node knew is back. ARGV: term.
if redis.call('HGET', base, 'restorer') == ARGV[1] then redis.call('HDEL', base, 'restorer', 'deadline') end
return finish('taken')
