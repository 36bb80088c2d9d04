-- Extend a lease and note the progress. A sweep does not revoke a token: a worker that wakes in time goes on.
-- KEYS: 1 unmix:leases  2 unmix:marks  3 unmix:job:<job_id>
-- ARGV: 1 job_id  2 token  3 lease in ms  4 progress 0..1
-- Returns 1, or 0 if the token is not valid any more.
if redis.call('HGET', KEYS[3], 'token') ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('HDEL', KEYS[2], 'lease:' .. ARGV[1])
redis.call('HSET', KEYS[3], 'status', 'running', 'progress', ARGV[4])
return 1
