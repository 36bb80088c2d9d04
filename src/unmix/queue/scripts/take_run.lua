-- Lease the next run of consecutive parts that nobody makes: the wished one if it is free, else the first. Going on
-- costs a window less than beginning, so while there is much left, whoever makes the part before has room to go on.
-- The first part of a song is a run of its own, so that something can be heard soon. Towards the end runs get shorter:
-- nobody takes more than its share of what is left, so that all who work on the song end at about the same time.
-- KEYS: 1 unmix:help  2 unmix:runs:<job_id>  3 unmix:job:<job_id>
-- ARGV: 1 job_id  2 generation  3 kind of the parts  4 token  5 lease in ms  6 number of the wished part  7 most parts
--       8 seconds until all this is forgotten
-- Returns {first, how many}; {-1, how many are not there yet} if nothing is free; {} if there is nothing to help with.
local known = redis.call('HMGET', KEYS[3], 'status', 'generation')
-- What a foreign producer pushed has no generation here.
if (known[1] ~= 'running' and known[1] ~= 'queued') or (known[2] and known[2] ~= ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return {}
end
local run = {}
local listed = redis.call('HGETALL', KEYS[2])
for i = 1, #listed, 2 do
  run[listed[i]] = listed[i + 1]
end
if run['generation'] ~= ARGV[2] or run['kind'] ~= ARGV[3] then
  return {}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts, missing, left = tonumber(run['parts']), 0, 0
local first = nil
local makers, holds = 1, {}
local function free(part)
  local state = part < parts and run[tostring(part)]
  if state == 'there' or part >= parts then
    return false
  end
  return not state or tonumber(string.match(state, '^%d+') or 0) <= now
end
for part = 0, parts - 1 do
  if run[tostring(part)] ~= 'there' then
    missing = missing + 1
  end
  if free(part) then
    first, left = first or part, left + 1
  else
    local token = string.match(run[tostring(part)], ':(.*)$')
    if token and not holds[token] then
      makers, holds[token] = makers + 1, true
    end
  end
end
if not first then
  if missing == 0 then
    redis.call('ZREM', KEYS[1], ARGV[1])
  end
  return {-1, missing}
end
local room = tonumber(ARGV[7])
local function has_room()
  for part = first, first + room do
    if not free(part) then
      return false
    end
  end
  return left >= 2 * room
end
if free(tonumber(ARGV[6])) then
  first = tonumber(ARGV[6])
elseif first > 0 and run[tostring(first - 1)] ~= 'there' and has_room() then
  first = first + room
end
local count, most = 1, math.min(room, math.ceil(left / makers))
while first > 0 and count < most and free(first + count) do
  count = count + 1
end
for part = first, first + count - 1 do
  redis.call('HSET', KEYS[2], part, string.format('%.0f', now + tonumber(ARGV[5])) .. ':' .. ARGV[4])
end
redis.call('EXPIRE', KEYS[2], ARGV[8])
return {first, count}
