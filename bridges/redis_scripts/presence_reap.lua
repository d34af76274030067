-- Ends a term by taking out its entries, some at a time; answers with how many remain. ARGV: term, grace period (ms).
local term, grace = ARGV[1], tonumber(ARGV[2])
if redis.call('SISMEMBER', terms, term) == 0 then return finish(0) end
for _, entry in ipairs(redis.call('SPOP', entries(term), 500)) do
  lose(string.sub(entry, 1, string.find(entry, '\0', 1, true) - 1), grace)
end
local remain = redis.call('SCARD', entries(term))
if remain == 0 then
  redis.call('SREM', terms, term)
  tell('ended', term)
end
return finish(remain)
