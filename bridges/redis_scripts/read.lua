-- What subscriptions lack, and last values, all at one moment. Nothing is changed.
--
-- KEYS[1] meta. ARGV: the most messages for each filter, the time in ms, then for each filter: kind, filter or pattern, and
--   'after', 'first' or 'kept': place  messages after it, in order; nothing if some are lacking ('first': but for those
--                                     that gave way to newer ones of their topic; 'kept': whatever there is)
--   'last':   from                    last values of rooms whose newest place is beyond `from`
--   'before': place, and beyond       messages before a place, the newest first, as far as they are beyond the other
-- Kind is 'room' or 'pattern'. Answers: epoch, newest place, and for each filter what its function below returns.
-- One run does only so much, since everybody else waits meanwhile; then it is asked again for the rest.
local meta = KEYS[1]
local base = string.sub(meta, 1, -5)
local state = redis.call('HMGET', meta, 'epoch', 'seq', 'floor')
if not state[1] then return redis.error_reply('FORGOTTEN the log is gone') end
local head, floor = tonumber(state[2]), tonumber(state[3])
local rooms, index, lost = base .. 'rooms', base .. 'index', base .. 'lost'
local limit, now = tonumber(ARGV[1]), tonumber(ARGV[2])

local function share(all, least) return math.max(least, math.floor(all / math.max(1, (#ARGV - 2) / 5))) end
-- Of each pattern: the most that it is compared with, the most rooms whose last values are told, and about so many bytes.
local SCANNED, FOUND, BYTES = share(4096, 128), share(1000, 32), share(4194304, 65536)

local function matches(room, pattern) -- "!" before it: it begins with a wildcard, so no name with "$" is meant
  if string.byte(pattern) == 33 and string.byte(room) == 36 then return false end
  return string.find(room .. '/', string.sub(pattern, 2)) ~= nil
end

local function beyond_id(place) return string.format('(%d-0', place) end

local function place_of(id) return tonumber(string.match(id, '^%d+')) end

local function values_beyond(room, place, found)
  for _, value in ipairs(redis.call('HVALS', base .. 'last:' .. room)) do
    if tonumber(string.match(value, '^%d+')) > place then found[#found + 1] = value end
  end
  return found
end

local spent, ALL_BYTES = 0, 8388608 -- of all rooms' histories: an answer that is too long would end the connection

local function history_after(room, place) -- {entries, whether there are more}
  local history, from = {}, beyond_id(place)
  while #history <= limit do
    local slice = redis.call('XRANGE', base .. 'log:' .. room, from, '+', 'COUNT', math.min(100, limit + 1 - #history))
    for _, entry in ipairs(slice) do
      if spent > ALL_BYTES then return history, 1 end
      history[#history + 1], spent, from = entry[2][2], spent + #entry[2][2], '(' .. entry[1]
    end
    if #slice < 100 then break end
  end
  return history, #history > limit and 1 or 0
end

-- {floor, newest, lost, history, last values, whether there is more of the history}; the caller looks for holes
local function after_in_room(room, place)
  local newest = tonumber(redis.call('ZSCORE', rooms, room) or -1)
  if newest < 0 then return {floor, -1, 0, {}, {}, 0} end
  local gone = tonumber(redis.call('HGET', lost, room) or 0)
  if newest <= place then return {0, newest, gone, {}, {}, 0} end
  if spent > ALL_BYTES then return {0, newest, gone, {}, {}, 1} end
  local history, more = history_after(room, place)
  local previous, expires = string.match(history[1] or '', '^%d+ (%d+) (%d+)')
  local values = {}
  if not previous or tonumber(previous) > place or expires ~= '0' then values = values_beyond(room, place, {}) end
  return {0, newest, gone, history, values, more}
end

local function is_fresh(message)
  local expires = tonumber(string.match(message, '^%d+ %d+ (%d+)'))
  return expires == 0 or expires > now
end

local function message_at(id, room, topic) -- as it is kept, if it is
  local entry = redis.call('XRANGE', base .. 'log:' .. room, id, id)[1]
  if entry and is_fresh(entry[2][2]) then return entry[2][2] end
  local value = redis.call('HGET', base .. 'last:' .. room, topic)
  if value and tonumber(string.match(value, '^%d+')) == place_of(id) then return value end
  return nil, value
end

local function after_in_pattern(pattern, place, what) -- {whether all is kept, place up to which it was looked, messages}
  local bytes = 0
  local oldest = redis.call('XRANGE', index, '-', '+', 'COUNT', 1)[1]
  local reach = oldest and place_of(oldest[1]) - 1 or head
  local found, reached, complete = {}, head, 1
  if place < math.max(reach, floor) and place < head then complete = 0 end
  if complete == 0 and what ~= 'kept' then return {0, place, {}} end
  local scanned = redis.call('XRANGE', index, beyond_id(place), '+', 'COUNT', SCANNED)
  for _, entry in ipairs(scanned) do
    local room, topic = entry[2][2], entry[2][4]
    if matches(room, pattern) then
      local message, newer = message_at(entry[1], room, topic)
      if message then
        found[#found + 1], bytes = message, bytes + #message
      elseif what ~= 'first' or not newer or place_of(entry[1]) <= tonumber(redis.call('HGET', lost, room) or 0) then
        complete = 0
        if what ~= 'kept' then return {0, place, {}} end
      end
      if #found > limit or bytes > BYTES then return {complete, place_of(entry[1]), found} end
    end
  end
  if #scanned == SCANNED then reached = place_of(scanned[#scanned][1]) end
  return {complete, reached, found}
end

local function last_in_pattern(pattern, from) -- {up to which place, whether there are more, last values by room}
  local candidates = redis.call('ZRANGEBYSCORE', rooms, '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, SCANNED)
  local found, bytes = {}, 0
  for at = 1, #candidates, 2 do
    if matches(candidates[at], pattern) then
      local values = redis.call('HVALS', base .. 'last:' .. candidates[at])
      for _, value in ipairs(values) do bytes = bytes + #value end
      found[#found + 1] = {candidates[at], values}
      if #found >= FOUND or bytes > BYTES then return {tonumber(candidates[at + 1]), 1, found} end
    end
  end
  local more = #candidates == 2 * SCANNED
  return {more and tonumber(candidates[#candidates]) or head, more and 1 or 0, found}
end

local function last_in_room(room, from)
  local newest = tonumber(redis.call('ZSCORE', rooms, room) or -1)
  if newest <= from then return {head, 0, {}} end
  return {head, 0, {{room, redis.call('HVALS', base .. 'last:' .. room)}}}
end

local function before_in_room(room, place, beyond) -- {up to which place, whether there may be more, messages}
  local found = {}
  local range = redis.call('XREVRANGE', base .. 'log:' .. room, beyond_id(place), beyond_id(beyond), 'COUNT', limit)
  for _, entry in ipairs(range) do
    if is_fresh(entry[2][2]) then found[#found + 1] = entry[2][2] end
  end
  for _, value in ipairs(redis.call('HVALS', base .. 'last:' .. room)) do
    local at = tonumber(string.match(value, '^%d+'))
    if at > beyond and at < place then found[#found + 1] = value end
  end
  return {beyond, 0, found}
end

local function before_in_pattern(pattern, place, beyond)
  local found, bytes = {}, 0
  local scanned = redis.call('XREVRANGE', index, beyond_id(place), beyond_id(beyond), 'COUNT', SCANNED)
  for _, entry in ipairs(scanned) do
    local room, topic = entry[2][2], entry[2][4]
    if matches(room, pattern) then
      local message = message_at(entry[1], room, topic)
      if message then found[#found + 1], bytes = message, bytes + #message end
      if #found >= limit or bytes > BYTES then return {place_of(entry[1]), #found < limit and 1 or 0, found} end
    end
  end
  local more = #scanned == SCANNED
  return {more and place_of(scanned[#scanned][1]) or beyond, more and 1 or 0, found}
end

local answers, at = {}, 3
while ARGV[at] do
  local exact, name, what, place = ARGV[at] == 'room', ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local beyond = tonumber(ARGV[at + 4])
  at = at + 5
  local found
  if what == 'last' then
    found = exact and last_in_room(name, place) or last_in_pattern(name, place)
  elseif what == 'before' and place <= beyond + 1 then
    found = {beyond, 0, {}}
  elseif what == 'before' then
    found = exact and before_in_room(name, place, beyond) or before_in_pattern(name, place, beyond)
  else
    found = exact and after_in_room(name, place) or after_in_pattern(name, place, what)
  end
  answers[#answers + 1] = found
end
return {state[1], head, answers}
