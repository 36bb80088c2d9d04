-- Note a failure that may pass: try again later, or say that the tries are used up and leave the lease to the worker,
-- who then commits the failure in the store before it finishes the job.
-- KEYS: 1 unmix:leases  2 unmix:delayed  3 unmix:marks  4 unmix:job:<job_id>
-- ARGV: 1 job_id  2 token  3 counter: failures | crashes  4 most of them  5 first delay in ms (jittered)  6 error code
-- Returns 'retry', 'exhausted', or 'stale' if the token is not valid any more.
local job_id = ARGV[1]
if redis.call('HGET', KEYS[4], 'token') ~= ARGV[2] then
  return 'stale'
end
local count = redis.call('HINCRBY', KEYS[4], ARGV[3], 1)
redis.call('HSET', KEYS[4], 'error_code', ARGV[6])
if count >= tonumber(ARGV[4]) then
  return 'exhausted'
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local retry_at = now + math.floor(tonumber(ARGV[5]) * 2 ^ (count - 1))
redis.call('HDEL', KEYS[4], 'token')
redis.call('HSET', KEYS[4], 'status', 'queued', 'progress', 0, 'retry_at', retry_at)
redis.call('ZREM', KEYS[1], job_id)
redis.call('HDEL', KEYS[3], 'lease:' .. job_id)
redis.call('ZADD', KEYS[2], retry_at, job_id)
return 'retry'
