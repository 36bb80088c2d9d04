-- Queue a job, or leave it where it is when this very submission is already open.
-- KEYS: 1 toWorker  2 unmix:taken  3 unmix:leases  4 unmix:open  5 unmix:delayed  6 unmix:job:<job_id>
-- ARGV: 1 job_id  2 generation  3 number of callbacks
-- Returns 1 if the job was queued now, 0 if it already was.
local job_id, generation, callbacks = ARGV[1], ARGV[2], tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[6], 'generation', 'status')
local open = known[2] == 'queued' or known[2] == 'running'
local waiting = open and redis.call('LPOS', KEYS[1], job_id)

if open and known[1] == generation then
  if waiting or redis.call('ZSCORE', KEYS[3], job_id) or redis.call('ZSCORE', KEYS[5], job_id)
      or redis.call('LPOS', KEYS[2], job_id) then
    return 0
  end
end

-- A new record revokes the token of whoever still works on an earlier submission.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[6])
redis.call('HSET', KEYS[6], 'status', 'queued', 'generation', generation, 'callbacks', callbacks, 'submitted_at', now)
redis.call('ZREM', KEYS[3], job_id)
redis.call('ZREM', KEYS[5], job_id)
redis.call('ZADD', KEYS[4], now, job_id)
if not waiting then
  redis.call('LPUSH', KEYS[1], job_id)
end
return 1
