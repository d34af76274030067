-- The gateways that share this Redis: what both scripts begin with. All time is the server's.
--
-- KEYS[1] meta. ARGV: name, life (which process it is). Other keys: nodes (hash: beat, when anybody was heard last, and
-- since, from when on that went without a gap, ms), nodes:seen (zset: name -> last sign of life, ms), nodes:beats (hash:
-- name -> how many it gave), nodes:lives (hash: name -> life), nodes:about (hash: name -> what it says of itself, JSON)
-- The channel `nodes` is told of each that comes or goes.
local base = string.sub(KEYS[1], 1, -5) .. 'nodes'
local seen, beats, lives, about = base .. ':seen', base .. ':beats', base .. ':lives', base .. ':about'
local name, life = ARGV[1], ARGV[2]

local function forget(node)
  redis.call('ZREM', seen, node)
  for _, key in ipairs({beats, lives, about}) do redis.call('HDEL', key, node) end
  redis.call('SPUBLISH', base, node)
end
