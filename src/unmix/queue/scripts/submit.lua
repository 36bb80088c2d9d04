-- Queue a job, behind what is served before it by the rounds or at the tail, or leave it where it is.
-- KEYS: 1 toWorker  2 unmix:taken  3 unmix:leases  4 unmix:open  5 unmix:delayed  6 unmix:failed  7 unmix:job:<job_id>
--       8 unmix:rounds
-- ARGV: 1 job_id  2 generation  3 number of callbacks  4 '1': only if it is in no key, of whatever generation
--       5 time of submission in ms, '' for now  6 share, '' if nobody knows
-- Returns 1 if the job was queued now, 0 if it already was.
local job_id, generation, callbacks, only_if_missing = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local known = redis.call('HMGET', KEYS[7], 'generation', 'status')
local same = known[1] == generation
local waiting = redis.call('LPOS', KEYS[1], job_id)
local present = waiting or redis.call('ZSCORE', KEYS[3], job_id) or redis.call('ZSCORE', KEYS[5], job_id)
    or redis.call('LPOS', KEYS[2], job_id)
if present and (only_if_missing or (same and (known[2] == 'queued' or known[2] == 'running'))) then
  return 0
end

local submitted_at = tonumber(ARGV[5])
if not submitted_at then
  local time = redis.call('TIME')
  submitted_at = time[1] * 1000 + math.floor(time[2] / 1000)
end
-- The first write, because a server that is full refuses this one, and after the first nothing of a script any more.
redis.call('ZADD', KEYS[4], submitted_at, job_id)
leave_round(KEYS[8], KEYS[7], job_id)
if same and only_if_missing then
  redis.call('HDEL', KEYS[7], 'token', 'retry_at') -- what it has cost so far stays on its account
  redis.call('PERSIST', KEYS[7])
else
  redis.call('DEL', KEYS[7]) -- which revokes the token of whoever still works on an earlier submission
end
redis.call('HSET', KEYS[7], 'status', 'queued', 'generation', generation, 'callbacks', callbacks,
           'submitted_at', submitted_at, 'progress', 0)
redis.call('ZREM', KEYS[3], job_id)
redis.call('ZREM', KEYS[5], job_id)
redis.call('ZREM', KEYS[6], job_id)
if not waiting and ARGV[6] ~= '' then
  enter_round(KEYS[8], KEYS[1], KEYS[7], job_id, ARGV[6])
elseif not waiting then
  redis.call('LPUSH', KEYS[1], job_id)
end
return 1
