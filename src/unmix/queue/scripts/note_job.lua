-- Put a job on the list of jobs, or write its card anew; the oldest make way.
-- KEYS: 1 unmix:jobs
-- ARGV: 1 job_id  2 card as JSON  3 time of submission in ms  4 final status or ''  5 error code or ''
--       6 most jobs  7 most bytes of cards and of what they are found by  8 '1': whatever submission is on the list
-- Returns 1, or 0 if a later submission is on the list.
local jobs, job_id, text, submitted_at = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local known = redis.call('HGET', jobs .. ':cards', job_id)
local card = cjson.decode(text)
if known and cjson.decode(known).generation ~= card.generation then
  if ARGV[8] ~= '1' and tonumber(redis.call('ZSCORE', jobs, job_id)) > submitted_at then
    return 0
  end
  forget_end(jobs, job_id) -- of an earlier submission
end
-- The first write of those that need memory: a server that is full refuses this one, and then nothing is half done.
redis.call('ZADD', jobs, submitted_at, job_id)
forget_card(jobs, job_id)
redis.call('HSET', jobs .. ':cards', job_id, text)
redis.call('INCRBY', jobs .. ':bytes', cost_of(text, card))
for _, term in ipairs(terms_of(card)) do
  redis.call('ZADD', jobs_by(jobs, term), submitted_at, job_id)
end
if ARGV[4] ~= '' then
  note_end(jobs, job_id, ARGV[4], ARGV[5])
end
local function is_too_much()
  local count, bytes = redis.call('ZCARD', jobs), tonumber(redis.call('GET', jobs .. ':bytes'))
  return count > tonumber(ARGV[6]) or (bytes > tonumber(ARGV[7]) and count > 1)
end
while is_too_much() do
  local oldest = redis.call('ZRANGE', jobs, 0, 0, 'WITHSCORES')
  forget_job(jobs, oldest[1])
  redis.call('SET', jobs .. ':since', oldest[2])
end
return 1
