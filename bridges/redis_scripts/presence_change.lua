-- Takes changes in a term. ARGV: term, the most members, then for each change five words:
-- enter, member, source, state for who isn't there, 0                       of a session
-- leave, member, source, grace period (ms; 0: at once), 0
-- appear, member, source, nothing, how long ago (µs)                         of a device
-- vanish, member, source, grace period, how long ago
-- state, member, state, nothing, how long ago
-- Answers with how many had to leave sooner to make place, and the numbers of the changes that found none; or `ended`.
local term, most = ARGV[1], tonumber(ARGV[2])
if redis.call('SISMEMBER', terms, term) == 0 then return finish('ended') end
local evicted, refused = 0, {}

local function gain(member, state)
  if redis.call('HINCRBY', counts, member, 1) > 1 or redis.call('ZREM', leaving, member) == 1 then return true end
  if redis.call('HLEN', members) >= most then
    local first = redis.call('ZRANGE', leaving, 0, 0)[1]
    if not first then
      redis.call('HDEL', counts, member)
      return false
    end
    evicted = evicted + 1
    remove(first)
  end
  add(member, state)
  return true
end

local function enter(key, member, source, state)
  if redis.call('SADD', key, member .. '\0' .. source) == 0 then return false end
  if gain(member, state) then return true end
  redis.call('SREM', key, member .. '\0' .. source)
  return nil
end

local function leave(key, member, source, grace)
  if redis.call('SREM', key, member .. '\0' .. source) == 0 then return false end
  lose(member, grace)
  return true
end

local function set_state(member, state)
  local known = redis.call('HGET', members, member)
  if not known then return end
  local place = string.match(known, '^%d+ ')
  if known ~= place .. state then
    redis.call('HSET', members, member, place .. state)
    tell('state', member, state)
  end
end

for at = 3, #ARGV, 5 do
  local what, member, detail, more, age = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local found
  if what == 'enter' then
    found = enter(entries(term), member, detail, more)
  elseif what == 'leave' then
    leave(entries(term), member, detail, tonumber(more))
  elseif what == 'state' then
    if is_last(member, age) then set_state(member, detail) end
  else
    if is_last(member .. '\0' .. detail, age) then
      if what == 'appear' then
        found = enter(devices, member, detail, '')
      else
        found = leave(devices, member, detail, tonumber(more))
      end
      if found then tell(what, member, detail) end
    end
  end
  if found == nil and (what == 'enter' or what == 'appear') then refused[#refused + 1] = (at - 3) / 5 end
end
return finish('taken', evicted, refused)
