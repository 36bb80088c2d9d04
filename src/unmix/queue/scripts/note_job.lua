-- Put a job on the list of jobs, or write its card anew; the oldest make way.
-- KEYS: 1 unmix:jobs
-- ARGV: 1 job_id  2 card as JSON  3 time of submission in ms  4 final status or ''  5 error code or ''
--       6 most jobs  7 most bytes of cards and of what they are found by  8 '1': whatever submission is on the list
-- Returns 1, or 0 if a later submission is on the list.
local jobs, job_id, text, submitted_at = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local known = redis.call('HGET', jobs .. ':cards', job_id)
local card, former = cjson.decode(text), known and cjson.decode(known)
local is_later = former and former.generation ~= card.generation
if is_later and ARGV[8] ~= '1' and tonumber(redis.call('ZSCORE', jobs_by(jobs, former), job_id)) > submitted_at then
  return 0
end
-- The first write of those that need memory: a server that is full refuses this one, and then nothing is half done.
redis.call('ZADD', jobs_by(jobs, card), submitted_at, job_id)
if card.tenant then
  redis.call('ZADD', jobs .. ':tenants', 0, card.tenant)
end
if former then
  if is_later then
    forget_end(jobs, job_id, former)
  end
  forget_card(jobs, job_id, known, former)
  if former.tenant ~= card.tenant then
    leave_tenant(jobs, job_id, former)
  end
end
redis.call('HSET', jobs .. ':cards', job_id, text)
redis.call('INCRBY', jobs .. ':bytes', cost_of(text, card))
for _, term in ipairs(terms_of(card)) do
  redis.call('ZADD', jobs_by(jobs, card, term), submitted_at, job_id)
end
if ARGV[4] ~= '' then
  note_end(jobs, job_id, card, ARGV[4], ARGV[5])
elseif not redis.call('HGET', jobs .. ':ends', job_id) then
  redis.call('ZADD', jobs_by(jobs, card, 'open'), submitted_at, job_id)
end
-- How many jobs there are, and the oldest of all.
local function count_and_oldest()
  local count, oldest = redis.call('ZCARD', jobs), redis.call('ZRANGE', jobs, 0, 0, 'WITHSCORES')
  for _, tenant in ipairs(redis.call('ZRANGE', jobs .. ':tenants', 0, -1)) do
    local theirs = jobs_by(jobs, {tenant = tenant})
    count = count + redis.call('ZCARD', theirs)
    local first = redis.call('ZRANGE', theirs, 0, 0, 'WITHSCORES')
    if first[1] and (not oldest[1] or tonumber(first[2]) < tonumber(oldest[2])) then
      oldest = first
    end
  end
  return count, oldest
end
while true do
  local count, oldest = count_and_oldest()
  local bytes = tonumber(redis.call('GET', jobs .. ':bytes'))
  if count <= tonumber(ARGV[6]) and (bytes <= tonumber(ARGV[7]) or count <= 1) then
    return 1
  end
  forget_job(jobs, oldest[1])
  redis.call('SET', jobs .. ':since', oldest[2])
end
