-- Make sure that one more callback of a request is delivered: at the finish, or at once if the job is over.
-- KEYS: 1 unmix:outbox  2 unmix:job:<job_id>
-- ARGV: 1 job_id  2 index of the callback in the request
local status = redis.call('HGET', KEYS[2], 'status')
if status == 'queued' or status == 'running' then
  local known = tonumber(redis.call('HGET', KEYS[2], 'callbacks') or 0)
  redis.call('HSET', KEYS[2], 'callbacks', math.max(known, tonumber(ARGV[2]) + 1))
else
  redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000, ARGV[1] .. '#' .. ARGV[2])
end
return 1
