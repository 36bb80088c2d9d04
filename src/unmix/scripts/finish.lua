-- End a job whose outcome is committed in the store, and make its callbacks due.
-- KEYS: 1 unmix:leases  2 unmix:open  3 unmix:delayed  4 unmix:outbox  5 unmix:marks  6 unmix:job:<job_id>
-- ARGV: 1 job_id  2 token  3 final status  4 error code or ''  5 number of callbacks  6 seconds to keep the record
-- Returns 1, or 0 if the token is not valid any more: then somebody else ends the job.
local job_id = ARGV[1]
if redis.call('HGET', KEYS[6], 'token') ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A callback may have been added since the worker read the request.
local callbacks = math.max(tonumber(ARGV[5]), tonumber(redis.call('HGET', KEYS[6], 'callbacks') or 0))
for i = 0, callbacks - 1 do
  redis.call('ZADD', KEYS[4], now, job_id .. '#' .. i)
end
redis.call('HSET', KEYS[6], 'status', ARGV[3], 'error_code', ARGV[4], 'progress', 1)
redis.call('HDEL', KEYS[6], 'token')
redis.call('EXPIRE', KEYS[6], ARGV[6])
redis.call('ZREM', KEYS[1], job_id)
redis.call('ZREM', KEYS[2], job_id)
redis.call('ZREM', KEYS[3], job_id)
redis.call('HDEL', KEYS[5], 'lease:' .. job_id)
return 1
