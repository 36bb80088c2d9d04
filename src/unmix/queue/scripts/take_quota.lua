-- Take from some quotas what is asked for, or nothing from any of them if one has not enough.
-- A bucket is the time at which it will be full again; one that is full has no key. Places are a sorted set of who has
-- one, each with a time: the place is kept until then, and afterwards for as long as it is a job that is open. The set is
-- forgotten a week after the last place in it was taken.
-- KEYS: 1 unmix:open  2.. the quotas, unmix:quota:<quota>:<holder>
-- ARGV: for each quota: 1 'bucket' | 'places'  2 most
--       3 ms in which the bucket is full again | who wants a place, '' for nobody
--       4 how much is taken, less than 0 to give it back | ms for which the place is kept in any case
-- Returns for each: how much of it is used, ms until it has enough, -1 if nobody knows, ms until it is full again,
-- 1 if a place was there already.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function look_into_bucket(key, most, fill_ms, amount)
  local full_at = math.max(tonumber(redis.call('GET', key) or 0), now)
  local gain = fill_ms / most
  local used = (full_at - now) / gain
  local function take()
    full_at = math.max(full_at + amount * gain, now)
    redis.call('SET', key, string.format('%.3f', full_at), 'PX', math.max(1, math.ceil(full_at - now)))
    return (full_at - now) / gain, full_at - now
  end
  local wait = (used + amount - most) * gain
  -- What lacks less than a millisecond lacks nothing but digits.
  return {used = used, wait = wait < 1 and 0 or wait, full = full_at - now, take = take}
end

local function look_at_places(key, most, who, keep_ms)
  local kept = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  local used = 0
  for i = 1, #kept, 2 do
    if tonumber(kept[i + 1]) <= now and not redis.call('ZSCORE', KEYS[1], kept[i]) then
      redis.call('ZREM', key, kept[i])
    else
      used = used + 1
    end
  end
  local has_one = who ~= '' and redis.call('ZSCORE', key, who)
  local function take()
    if who ~= '' and not has_one then
      redis.call('ZADD', key, now + keep_ms, who)
      redis.call('EXPIRE', key, 7 * 86400)
      return used + 1, 0
    end
    return used, 0
  end
  local is_wanting = who ~= '' and not has_one and used >= most
  return {used = used, wait = is_wanting and -1 or 0, full = 0, take = take, has_one = has_one}
end

local found, is_enough = {}, true
for i = 2, #KEYS do
  local at = 4 * (i - 2)
  local look = ARGV[at + 1] == 'bucket' and look_into_bucket or look_at_places
  local third = ARGV[at + 1] == 'bucket' and tonumber(ARGV[at + 3]) or ARGV[at + 3]
  found[i - 1] = look(KEYS[i], tonumber(ARGV[at + 2]), third, tonumber(ARGV[at + 4]))
  is_enough = is_enough and found[i - 1].wait == 0
end
local told = {}
for i, quota in ipairs(found) do
  if is_enough then
    quota.used, quota.full = quota.take()
  end
  told[i] = {tostring(quota.used), math.ceil(quota.wait), math.ceil(quota.full), quota.has_one and 1 or 0}
end
return told
