-- Take one token from each of some buckets, or from none of them if one is empty.
-- A bucket is the time at which it will be full again; one that is full has no key.
-- KEYS: the buckets, unmix:calls:<what>
-- ARGV: for each in turn: 1 ms in which it gains a token  2 most tokens that it holds
-- Returns for each the ms until it has a token: all are 0 if they were taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local full, waits, is_empty = {}, {}, false
for i, key in ipairs(KEYS) do
  local gain, most = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  full[i] = math.max(tonumber(redis.call('GET', key) or 0), now)
  waits[i] = math.max(0, math.ceil(full[i] - now - gain * (most - 1)))
  is_empty = is_empty or waits[i] > 0
end
if not is_empty then
  for i, key in ipairs(KEYS) do
    full[i] = full[i] + tonumber(ARGV[2 * i - 1])
    redis.call('SET', key, string.format('%.3f', full[i]), 'PX', math.max(1, math.ceil(full[i] - now)))
  end
end
return waits
