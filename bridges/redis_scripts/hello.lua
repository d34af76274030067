-- What a node asks first on each connection: which epoch holds. It also makes known up to where its batches are stored.
--
-- KEYS[1] meta. ARGV: a name for a new epoch, the node's newest place, producer, the number of its last confirmed batch,
--   the epoch that the node knows. Answers with what is in the last line.
-- A server that has started anew may have lost what came last, so it begins an epoch. That continues the one before up to
-- the place that is there; all earlier ones are in `epochs`, each with the place up to which it is continued. Where
-- nothing is left, `start` is the place after which the new log begins, and `instead` the epoch that is gone.
local meta = KEYS[1]
local base = string.sub(meta, 1, -5)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local state = redis.call('HMGET', meta, 'epoch', 'seq', 'run')
local epoch, seq, head = state[1], tonumber(state[2] or 0), tonumber(ARGV[2])
local epochs = base .. 'epochs'
if not epoch then
  -- What is left without `meta` (evicted, or deleted) has its places, beyond which streams take new ones only.
  local newest = redis.call('XREVRANGE', base .. 'index', '+', '-', 'COUNT', 1)[1]
  epoch, seq = ARGV[1], math.max(head, tonumber(newest and string.match(newest[1], '^%d+') or 0))
  redis.call('DEL', epochs)
  redis.call('HSET', meta, 'epoch', epoch, 'seq', seq, 'run', run, 'stamp', 0, 'floor', seq, 'values', 0, 'entries', 0,
    'bytes', 0, 'start', seq, 'instead', ARGV[5])
elseif state[3] ~= run then
  redis.call('HSET', epochs, epoch, seq)
  if redis.call('HLEN', epochs) > 1000 then redis.call('DEL', epochs) end
  epoch = ARGV[1]
  redis.call('HSET', meta, 'epoch', epoch, 'run', run)
end
if head > seq then -- places that a node has seen are used once
  seq = head
  redis.call('HSET', meta, 'seq', seq)
end
local record = base .. 'batch:' .. ARGV[3]
local stored = math.max(tonumber(redis.call('GET', record) or 0), tonumber(ARGV[4]))
redis.call('SET', record, stored, 'EX', 86400)
local stamp, start, instead = unpack(redis.call('HMGET', meta, 'stamp', 'start', 'instead'))
local common = redis.call('HGET', epochs, ARGV[5]) or (instead == ARGV[5] and start) or -1 -- what the node's log has, too
return {epoch, seq, tonumber(stamp), redis.call('HGETALL', epochs), tonumber(common)}
