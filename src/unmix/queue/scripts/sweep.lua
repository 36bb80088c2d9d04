-- Put back at the head of the queue what is due or abandoned: delayed retries, lapsed leases, takes never claimed.
-- Lapsed and unclaimed work is marked first and moved only when the mark is `grace` old, so that one pass after a
-- pause of everything (a frozen machine) moves nothing; and nothing is moved before Redis has been up for `grace`, as
-- during an outage nobody could renew. Several janitors may sweep at once.
-- KEYS: 1 toWorker  2 unmix:taken  3 unmix:leases  4 unmix:open  5 unmix:delayed  6 unmix:marks
-- ARGV: 1 grace in ms  2 prefix of the job records
-- Returns {retries, lapsed, unclaimed}: how many of each were put back.
local grace, prefix = tonumber(ARGV[1]), ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local batch = 200
local uptime = 1000 * tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)'))
local patient = uptime < grace

local function marked_long_enough(mark)
  if patient then
    return false
  end
  redis.call('HSETNX', KEYS[6], mark, now)
  if now - tonumber(redis.call('HGET', KEYS[6], mark)) < grace then
    return false
  end
  redis.call('HDEL', KEYS[6], mark)
  return true
end

local back = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, batch)
for _, job_id in ipairs(due) do
  redis.call('ZREM', KEYS[5], job_id)
  redis.call('HDEL', prefix .. job_id, 'retry_at')
  table.insert(back, job_id)
end

local lapsed = 0
for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, batch)) do
  if marked_long_enough('lease:' .. job_id) then
    local job = prefix .. job_id
    local seen = redis.call('HMGET', job, 'progress', 'lapse_progress', 'lapses')
    -- A worker that got further than the one before was not killed by the song: start counting anew.
    local further = tonumber(seen[1] or 0) > tonumber(seen[2] or 0)
    redis.call('HSET', job, 'status', 'queued', 'lapse_progress', seen[1] or 0,
               'lapses', further and 1 or tonumber(seen[3] or 0) + 1)
    redis.call('ZREM', KEYS[3], job_id)
    table.insert(back, job_id)
    lapsed = lapsed + 1
  end
end

-- Oldest submission last, because the right end is served next.
local function submitted_at(job_id)
  return tonumber(redis.call('ZSCORE', KEYS[4], job_id) or now)
end
table.sort(back, function(a, b) return submitted_at(a) > submitted_at(b) end)
for _, job_id in ipairs(back) do
  redis.call('RPUSH', KEYS[1], job_id)
end

local unclaimed = 0
for _, element in ipairs(redis.call('LRANGE', KEYS[2], 0, batch - 1)) do
  if marked_long_enough('taken:' .. redis.sha1hex(element)) then
    redis.call('LREM', KEYS[2], 1, element)
    redis.call('RPUSH', KEYS[1], element)
    unclaimed = unclaimed + 1
  end
end
return {#due, lapsed, unclaimed}
