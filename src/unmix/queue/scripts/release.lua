-- Give a job back unfinished, at the head of the queue and uncharged: this worker has to stop.
-- KEYS: 1 toWorker  2 unmix:leases  3 unmix:marks  4 unmix:job:<job_id>
-- ARGV: 1 job_id  2 token
-- Returns 1, or 0 if the token is not valid any more.
local job_id = ARGV[1]
if redis.call('HGET', KEYS[4], 'token') ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[4], 'token')
redis.call('HSET', KEYS[4], 'status', 'queued', 'progress', 0)
redis.call('HINCRBY', KEYS[4], 'attempt', -1)
redis.call('ZREM', KEYS[2], job_id)
redis.call('HDEL', KEYS[3], 'lease:' .. job_id)
if not redis.call('LPOS', KEYS[1], job_id) then -- the sweep may have been faster
  redis.call('RPUSH', KEYS[1], job_id)
end
return 1
