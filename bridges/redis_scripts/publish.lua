-- Stores what one turn of a node's event loop has published, and tells the nodes that want it. All or nothing; but a call
-- that Redis refuses in the midst of it (a key of another type, a channel that isn't allowed) is reported as refused, and
-- the others are stored: a script that ends there would leave the number of the batch behind, and places used twice.
--
-- KEYS[1]  the namespace's `meta`: epoch, seq (the newest place), stamp (one for each message, kept or not), floor (the
--          newest place of rooms that are forgotten), values, entries, bytes (what is kept), named (bytes of names in the
--          index), fence:<upstream>; and what hello.lua needs
-- ARGV     producer, number of this batch, the most last values, the most bytes, the most messages in the index;
--          then calls, each: kind and what belongs to it, see below
-- Other keys: rooms (zset: room -> its newest place), index (stream of all kept messages: room and topic), log:<room>
--          (stream of its history), last:<room> (hash: topic -> message), lost (hash: room -> newest place that gave way to
--          nothing), receipts:<upstream> (hash: packet id -> digest), batch:<producer> (number of its last batch)
-- A kept message is "<place> <room's previous place> <expires, ms> <bytes of the head> <head><data>".
local meta = KEYS[1]
local base = string.sub(meta, 1, -5)
local state = redis.call('HMGET', meta, 'epoch', 'seq', 'stamp', 'floor', 'values', 'entries', 'bytes', 'named')
local epoch = state[1]
if not epoch then return redis.error_reply('FORGOTTEN the log is gone') end
local seq, stamp, floor = tonumber(state[2]), tonumber(state[3]), tonumber(state[4])
local values, entries, bytes, named = tonumber(state[5]), tonumber(state[6]), tonumber(state[7]), tonumber(state[8] or 0)

local record, number = base .. 'batch:' .. ARGV[1], tonumber(ARGV[2])
local before = tonumber(redis.call('GET', record) or -1)
local again = before >= number -- stored already, but the answer was lost: only who is refused is said again
if not again and before >= 0 and number > before + 1 then return redis.error_reply('GAP expected batch ' .. (before + 1)) end
if not again then redis.call('SET', record, number, 'EX', 86400) end

local most_values, most_bytes, most_index = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local rooms, index, lost = base .. 'rooms', base .. 'index', base .. 'lost'
local known, published, evicted_values, evicted_entries, fences = 0, 0, 0, 0, {}

local function tell(room, message)
  redis.call('SPUBLISH', base .. 'room:' .. room, message)
  redis.call('SPUBLISH', base .. 'tree:', message)
  local depth = 0
  for stop in string.gmatch(room .. '/', '()/') do
    redis.call('SPUBLISH', base .. 'tree:' .. string.sub(room, 1, stop - 1), message)
    depth = depth + 1
    if depth == 3 then break end
  end
end

local function drop_first(log, most) -- makes place in a history; the newest place that is dropped, and whose it was
  local dropped
  local count = redis.call('XLEN', log)
  while count > 0 and count >= most do
    local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    redis.call('XDEL', log, first[1])
    bytes, entries, count, dropped = bytes - #first[2][2], entries - 1, count - 1, tonumber(string.match(first[1], '^%d+'))
  end
  return dropped
end

local function forget_value(room, topic) -- a last value is taken back
  local value = redis.call('HGET', base .. 'last:' .. room, topic)
  if value then
    redis.call('HDEL', base .. 'last:' .. room, topic)
    values, bytes = values - 1, bytes - #value
    local place = string.match(value, '^%d+')
    if #redis.call('XRANGE', base .. 'log:' .. room, place, place) == 0 then redis.call('HSET', lost, room, place) end
  end
end

local function is_known(room, topic, data)
  local value = redis.call('HGET', base .. 'last:' .. room, topic)
  if not value then return false end
  local start, size = string.match(value, '^%d+ %d+ %d+ ()(%d+) ')
  return #value - (start + #size) - tonumber(size) == #data and string.sub(value, -#data) == data
end

local function keep(room, topic, flags, messages, message)
  local log, last = base .. 'log:' .. room, base .. 'last:' .. room
  if string.find(flags, 'c', 1, true) then forget_value(room, topic) end
  redis.call('ZADD', rooms, seq, room)
  redis.call('XADD', index, string.format('%d-0', seq), 'r', room, 't', topic)
  named = named + #room + #topic
  local keeps_last = string.find(flags, 'l', 1, true)
  if keeps_last then
    bytes = bytes + #message - redis.call('HSTRLEN', last, topic)
    values = values + redis.call('HSET', last, topic, message)
  end
  if messages > 0 then
    local dropped = drop_first(log, messages)
    if dropped and not keeps_last then redis.call('HSET', lost, room, dropped) end
    redis.call('XADD', log, string.format('%d-0', seq), 'm', message)
    bytes, entries = bytes + #message, entries + 1
  elseif not keeps_last then
    redis.call('HSET', lost, room, seq)
  end
end

local function publish(at)
  local room, topic, flags, messages, expires, head, data = unpack(ARGV, at, at + 6)
  local fleeting = string.find(flags, 'f', 1, true)
  if string.find(flags, 'r', 1, true) and is_known(room, topic, data) then
    known = known + 1
    return
  end
  stamp = stamp + 1
  local previous = 0
  if not fleeting then
    local known_place = tonumber(redis.call('ZSCORE', rooms, room))
    previous, seq, published = known_place or 0, seq + 1, published + 1
    -- of a room that isn't known there may have been messages up to the floor
    local message = string.format('%d %d %s %d ', seq, known_place or floor, expires, #head) .. head .. data
    keep(room, topic, flags, tonumber(messages), message)
  end
  tell(room, string.format('%s %d %d %d %s %d ', epoch, seq, previous, stamp, fleeting and 'f' or 'k', #head) .. head .. data)
end

local problem
local function try(action, ...) -- what was written before stays, and is counted
  local done, why = pcall(action, ...)
  if not done then problem = type(why) == 'table' and why.err or tostring(why) end
  return done
end

local function is_fenced(upstream, token) -- by a later owner; and a token that is the newest is a fence for all before
  if upstream == '' then return false end
  fences[upstream] = fences[upstream] or tonumber(redis.call('HGET', meta, 'fence:' .. upstream) or 0)
  if tonumber(token) > fences[upstream] and not again then
    fences[upstream] = tonumber(token)
    redis.call('HSET', meta, 'fence:' .. upstream, token)
  end
  return tonumber(token) < fences[upstream]
end

local at, statuses = 6, {}
while ARGV[at] do
  local kind, upstream, token = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local fenced = is_fenced(upstream, token)
  local skipped = again or fenced
  if kind == 'p' then -- upstream, token, packet id (0: none), digest, count, then the publications
    local packet, digest, count = unpack(ARGV, at + 3, at + 5)
    at = at + 6
    local stored = true
    if not skipped and packet ~= '0' then
      stored = try(redis.call, 'HSET', base .. 'receipts:' .. upstream, packet, digest)
    end
    for _ = 1, tonumber(count) do
      if not skipped then stored = try(publish, at) and stored end
      at = at + 7
    end
    statuses[#statuses + 1] = fenced and 1 or stored and 0 or 2
  elseif kind == 'a' then -- upstream, token, packet id: acknowledged
    if not skipped then try(redis.call, 'HDEL', base .. 'receipts:' .. upstream, ARGV[at + 3]) end
    at = at + 4
  else -- upstream, token: its session is new
    if not skipped then redis.call('DEL', base .. 'receipts:' .. upstream) end
    at = at + 3
  end
end
if again then return {stamp, 0, 0, 0, statuses, ''} end

local function give_way(room, place)
  local log, last = base .. 'log:' .. room, base .. 'last:' .. room
  floor = math.max(floor, tonumber(place))
  local count = redis.call('XLEN', log)
  drop_first(log, 0)
  for _, value in ipairs(redis.call('HVALS', last)) do
    values, bytes, evicted_values = values - 1, bytes - #value, evicted_values + 1
  end
  redis.call('DEL', log, last)
  redis.call('HDEL', lost, room)
  evicted_entries = evicted_entries + count
end

for _ = 1, 20 + 2 * published do -- the stalest rooms give way
  if values <= most_values and bytes <= most_bytes and redis.call('ZCARD', rooms) <= most_values + 20000 then break end
  local stalest = redis.call('ZPOPMIN', rooms)
  if #stalest == 0 then break end
  try(give_way, unpack(stalest))
end

local function trim_index() -- a hundred at a time, which costs less
  local indexed = redis.call('XLEN', index)
  while indexed > most_index + 100 or (named > most_bytes and indexed > 0) do
    local last
    for _, entry in ipairs(redis.call('XRANGE', index, '-', '+', 'COUNT', 100)) do
      if indexed <= most_index and named <= most_bytes then break end
      indexed, named, last = indexed - 1, named - #entry[2][2] - #entry[2][4], string.match(entry[1], '^%d+')
    end
    redis.call('XTRIM', index, 'MINID', string.format('%d-0', last + 1))
  end
  if indexed == 0 then named = 0 end
end

try(trim_index)
redis.call('HSET', meta, 'seq', seq, 'stamp', stamp, 'floor', floor, 'values', values, 'entries', entries, 'bytes', bytes,
  'named', named)
return {stamp, known, evicted_values, evicted_entries, statuses, problem or ''}
