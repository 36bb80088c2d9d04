-- End a job whose outcome is committed in the store, and make its callbacks due.
-- A worker proves its right by its token. Whoever ends a job without one (a cancel, the reconciler) names the
-- generation of the outcome, and takes the job from whoever has it.
-- KEYS: 1 unmix:leases  2 unmix:open  3 unmix:delayed  4 unmix:outbox  5 unmix:failed  6 unmix:marks
--       7 unmix:job:<job_id>  8 toWorker  9 unmix:taken  10 unmix:outbox:tries  11 unmix:jobs  12 unmix:rounds
-- ARGV: 1 job_id  2 token or ''  3 generation or ''  4 final status  5 error code or ''  6 number of callbacks
--       7 seconds to keep the record  8 most failed jobs that are listed
-- Returns 1, or 0 if the token is not valid any more, or Redis knows another submission, or this one is over.
local job_id, token, generation = ARGV[1], ARGV[2], ARGV[3]
local record = redis.call('HMGET', KEYS[7], 'token', 'generation', 'status', 'callbacks')
if token ~= '' then
  if record[1] ~= token then
    return 0
  end
else
  if record[2] and record[2] ~= generation then
    return 0
  end
  redis.call('LREM', KEYS[8], 0, job_id)
  redis.call('LREM', KEYS[9], 0, job_id)
  redis.call('HDEL', KEYS[6], 'taken:' .. redis.sha1hex(job_id))
end
redis.call('ZREM', KEYS[1], job_id)
redis.call('ZREM', KEYS[2], job_id)
redis.call('ZREM', KEYS[3], job_id)
redis.call('HDEL', KEYS[6], 'lease:' .. job_id)
leave_round(KEYS[12], KEYS[7], job_id)
if record[3] == 'done' or record[3] == 'failed' or record[3] == 'cancelled' then
  return 0
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A callback may have been added since the worker read the request.
for i = 0, math.max(tonumber(ARGV[6]), tonumber(record[4] or 0)) - 1 do
  local entry = job_id .. '#' .. i
  redis.call('ZADD', KEYS[4], now, entry)
  redis.call('HDEL', KEYS[10], entry, 'last:' .. entry, 'host:' .. entry) -- of an earlier submission
end
redis.call('HSET', KEYS[7], 'status', ARGV[4], 'error_code', ARGV[5], 'progress', 1)
redis.call('HDEL', KEYS[7], 'token', 'retry_at')
if generation ~= '' then
  redis.call('HSET', KEYS[7], 'generation', generation)
end
redis.call('EXPIRE', KEYS[7], ARGV[7])
if ARGV[4] == 'failed' then
  redis.call('ZADD', KEYS[5], now, job_id)
  redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -ARGV[8] - 1)
end
local text = redis.call('HGET', KEYS[11] .. ':cards', job_id)
local card = text and cjson.decode(text)
if card and card.generation == (generation ~= '' and generation or record[2]) then
  note_end(KEYS[11], job_id, card, ARGV[4], ARGV[5])
end
return 1
