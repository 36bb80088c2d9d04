-- Lease the next run of consecutive parts that nobody makes: the wished one if it is free, else one of the first stretch
-- that nobody comes to, or that has a whole run to spare, or anything at all: nobody is idle while a part is free. Going
-- on costs a window less than beginning, so whoever makes the part before a stretch comes to it and is left half of it,
-- if that is not too far ahead of what is heard and joined. The first part of a song is a run of its own, so that
-- something can be heard soon. Nobody takes more than half its share of what is left, so that all who work on the song
-- end at about the same time.
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
local parts, wished, longest = tonumber(run['parts']), tonumber(ARGV[6]), tonumber(ARGV[7])
-- What is made of a part: 'there', the token of whoever makes it, or nil.
local function made(part)
  local state = run[tostring(part)]
  local lapses, token = string.match(state or '', '^(%d+):(.*)$')
  if lapses then
    return tonumber(lapses) > now and token or nil
  end
  return state == 'there' and state or nil
end
local function free_from(part)
  local length = 0
  while part + length < parts and not made(part + length) do
    length = length + 1
  end
  return length
end

local missing, left, makers, seen, spare = 0, 0, 1, {}, {}
local maker, held = 'there', 0 -- who makes the part before, and how many that lie in a row
local part = 0
while part < parts do
  local free = free_from(part)
  if free > 0 then
    local leave = 0
    if maker ~= 'there' then -- whoever makes the part before goes on; so both would end at about the same time
      leave = math.max(0, math.min(math.ceil((free + 1 - held) / 2), 2 * longest, free - 1))
    end
    spare[#spare + 1] = part + leave
    left, missing, part = left + free, missing + free, part + free
    maker, held = 'there', 0
  else
    local token = made(part)
    held = token == maker and held + 1 or 1
    maker = token
    if token ~= 'there' then
      missing = missing + 1
      makers = makers + (seen[token] and 0 or 1)
      seen[token] = true
    end
    part = part + 1
  end
end
if left == 0 then
  if missing == 0 then
    redis.call('ZREM', KEYS[1], ARGV[1])
  end
  return {-1, missing}
end
local most = math.min(longest, math.ceil(left / makers / 2))
local first = free_from(wished) > 0 and wished or nil
for _, begin in ipairs(spare) do
  local is_come_to = begin > 0 and made(begin - 1) ~= 'there'
  if not first and (free_from(begin) >= most or not is_come_to) then
    first = begin
  end
end
first = first or spare[1]
local count = first == 0 and 1 or math.min(free_from(first), most)
for each = first, first + count - 1 do
  redis.call('HSET', KEYS[2], each, string.format('%.0f', now + tonumber(ARGV[5])) .. ':' .. ARGV[4])
end
redis.call('EXPIRE', KEYS[2], ARGV[8])
return {first, count}
