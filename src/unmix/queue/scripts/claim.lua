-- Lease a taken element to one worker under a fresh token.
-- KEYS: 1 unmix:taken  2 unmix:leases  3 unmix:open  4 unmix:delayed  5 unmix:marks  6 unmix:job:<job_id>
--       7 unmix:rounds
-- ARGV: 1 element as taken  2 job_id  3 token  4 worker_id  5 lease in ms  6 '1' if the element was popped (BLPOP)
-- Returns {'claimed', attempt, generation or '', failures, crashes, lapses} or {'gone' | 'over' | 'leased'}.
local element, job_id, token, worker, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if ARGV[6] ~= '1' and redis.call('LREM', KEYS[1], 1, element) == 0 then
  return {'gone'} -- swept back to the list, or removed, since this worker took it
end
redis.call('HDEL', KEYS[5], 'taken:' .. redis.sha1hex(element))

local status = redis.call('HGET', KEYS[6], 'status')
if status == 'done' or status == 'failed' or status == 'cancelled' then
  return {'over'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_end = redis.call('ZSCORE', KEYS[2], job_id)
if lease_end and tonumber(lease_end) > now then
  return {'leased'} -- a second element of a job that somebody is working on
end

redis.call('HSET', KEYS[6], 'status', 'running', 'token', token, 'worker', worker, 'progress', 0)
redis.call('HDEL', KEYS[6], 'retry_at')
redis.call('HSETNX', KEYS[6], 'submitted_at', now) -- a foreign push has no record yet
redis.call('ZADD', KEYS[2], now + lease, job_id)
redis.call('ZADD', KEYS[3], 'NX', now, job_id)
redis.call('ZREM', KEYS[4], job_id)
redis.call('HDEL', KEYS[5], 'lease:' .. job_id)
begin_round(KEYS[7], KEYS[6], job_id)
local attempt = redis.call('HINCRBY', KEYS[6], 'attempt', 1)
local record = redis.call('HMGET', KEYS[6], 'generation', 'failures', 'crashes', 'lapses')
return {'claimed', attempt, record[1] or '', tonumber(record[2] or 0), tonumber(record[3] or 0), tonumber(record[4] or 0)}
