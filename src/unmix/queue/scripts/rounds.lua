-- What the scripts that queue jobs and take them out have in common; put before them. A job that waits and of which is
-- known whose it is has a round, in which each share has one turn. `rounds` is the key unmix:rounds, `record` the job's.

-- How far apart the jobs of one round are. A double tells 2^31 rounds of 2^22 jobs apart.
local STEP = 2 ^ -22

local function rounds_of(rounds, share)
  return rounds .. ':of:' .. share
end

-- The round of the next job of a share, and which jobs it would come between: the last one that is served before it,
-- with its score, and the first one that is served after it.
local function next_round(rounds, share)
  local own = redis.call('ZRANGE', rounds_of(rounds, share), -1, -1, 'WITHSCORES')
  local now = redis.call('GET', rounds .. ':now')
  local round = math.floor(math.max(tonumber(now or 0), tonumber(own[2] or 0))) + 1
  local before = redis.call('ZRANGE', rounds, '(' .. round + 1, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')
  local after = redis.call('ZRANGE', rounds, round + 1, '+inf', 'BYSCORE', 'LIMIT', 0, 1)
  return round, before, after[1]
end

-- Give a job its round, and put it into the list behind all that are not served after it. Others may have taken those
-- from the list by which its place is found: then it goes to the tail, as it would without a share.
local function enter_round(rounds, list, record, job_id, share)
  local round, before, after = next_round(rounds, share)
  local score = math.max(round, tonumber(before[2] or 0) + STEP)
  redis.call('ZADD', rounds, score, job_id)
  redis.call('ZADD', rounds_of(rounds, share), score, job_id)
  redis.call('HSET', record, 'share', share)
  local length = 0
  if after and before[1] then
    length = redis.call('LINSERT', list, 'BEFORE', before[1], job_id)
  end
  if after and length < 1 then
    length = redis.call('LINSERT', list, 'AFTER', after, job_id)
  end
  if length < 1 then
    redis.call('LPUSH', list, job_id)
  end
end

-- Take a job out of its round, and return which that was, if it has one.
local function leave_round(rounds, record, job_id)
  local share = redis.call('HGET', record, 'share')
  if not share then
    return false
  end
  local score = redis.call('ZSCORE', rounds, job_id)
  redis.call('ZREM', rounds, job_id)
  redis.call('ZREM', rounds_of(rounds, share), job_id)
  redis.call('HDEL', record, 'share')
  return score and math.floor(tonumber(score))
end

-- Take a job out of its round because its turn has come: those that come now belong to later rounds.
local function begin_round(rounds, record, job_id)
  local round = leave_round(rounds, record, job_id)
  if round and round > tonumber(redis.call('GET', rounds .. ':now') or 0) then
    redis.call('SET', rounds .. ':now', round)
  end
end
