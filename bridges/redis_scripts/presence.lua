-- Who is in which room, and why: what all scripts for presence begin with. Nodes know who is there, Redis why, and for
-- how long still.
--
-- A member is one in a room, named by a JSON text that is opaque here; an entry is "<member>\0<source>", a reason why it
-- is there. Those of sessions belong to a term of a node, one for each of its connections, and go with it; those of
-- devices belong to nobody.
-- KEYS[1] meta. Other keys: presence (hash: life, which is new when all was lost, position, one for each event; see
-- hello for the others), presence:alive (expires unless a node is there), presence:members (hash: member ->
-- "<position> <state>", those in their grace period too), presence:counts (hash: member -> number of entries),
-- presence:leaving (zset: member -> end of the grace period, ms), presence:terms (set), presence:term:<term> (set of
-- entries), presence:devices (set of entries), presence:words (zset: member or entry -> when the last word on its
-- state, or on whether it is there, was said, µs)
-- Events are published as MessagePack, [position of the last, [[event, member or term, state or source], …]].
-- All answer with the position, the milliseconds until the next grace period ends (-1: there is none), and more.
local base = string.sub(KEYS[1], 1, -5) .. 'presence'
local members, counts, leaving = base .. ':members', base .. ':counts', base .. ':leaving'
local devices, terms, words = base .. ':devices', base .. ':terms', base .. ':words'
local time = redis.call('TIME')
local now, now_us = time[1] * 1000 + math.floor(time[2] / 1000), time[1] * 1000000 + time[2]
local position = tonumber(redis.call('HGET', base, 'position') or 0)
local events, spoken = {}, false

local function tell(...)
  position = position + 1
  events[#events + 1] = {...}
end

local function finish(...)
  if #events > 0 then
    redis.call('HSET', base, 'position', position)
    redis.call('SPUBLISH', base, cmsgpack.pack({position, events}))
  end
  if spoken then
    redis.call('ZREMRANGEBYSCORE', words, '-inf', now_us - 3600000000)
    redis.call('ZREMRANGEBYRANK', words, 0, -100001)
  end
  local soonest = redis.call('ZRANGE', leaving, 0, 0, 'WITHSCORES')
  return {position, soonest[2] and math.max(0, soonest[2] - now) or -1, ...}
end

local function entries(term) return base .. ':term:' .. term end

local function add(member, state)
  tell('joined', member, state)
  redis.call('HSET', members, member, position .. ' ' .. state)
end

local function remove(member)
  redis.call('ZREM', leaving, member)
  redis.call('HDEL', members, member)
  redis.call('ZADD', words, 'XX', now_us, member)
  tell('left', member)
end

local function lose(member, grace)
  if redis.call('HINCRBY', counts, member, -1) > 0 then return end
  redis.call('HDEL', counts, member)
  if grace > 0 then redis.call('ZADD', leaving, now + grace, member) else remove(member) end
end

-- Whether a word that was said so many microseconds ago is the last one on this.
local function is_last(word, age)
  if age > 0 and tonumber(redis.call('ZSCORE', words, word) or 0) > now_us - age then return false end
  redis.call('ZADD', words, now_us - age, word)
  spoken = true
  return true
end
