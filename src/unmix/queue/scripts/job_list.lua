-- What the scripts that keep the list of jobs have in common; put before them. `jobs` is the key unmix:jobs.

-- The key of the jobs that share something, such as 'label:demo'.
local function jobs_by(jobs, term)
  return jobs .. ':by:' .. term
end

-- What can be asked for of a job, of all that stands on its card.
local function terms_of(card)
  local terms = {}
  for _, label in ipairs(card.labels) do
    table.insert(terms, 'label:' .. label)
  end
  for _, batch in ipairs(card.batches) do
    table.insert(terms, 'batch:' .. batch)
  end
  return terms
end

-- What a card takes of the room that there is for all: its text, and for each of its places in a sorted set as much as
-- one takes that is the only one there, beside the name of the set.
local TERM_BYTES = 200
local function cost_of(text, card)
  local cost = #text
  for _, term in ipairs(terms_of(card)) do
    cost = cost + TERM_BYTES + #term
  end
  return cost
end

local function forget_end(jobs, job_id)
  local ended = redis.call('HGET', jobs .. ':ends', job_id)
  if ended then
    redis.call('ZREM', jobs_by(jobs, 'status:' .. cjson.decode(ended).status), job_id)
    redis.call('HDEL', jobs .. ':ends', job_id)
  end
end

local function note_end(jobs, job_id, status, error_code)
  forget_end(jobs, job_id)
  redis.call('HSET', jobs .. ':ends', job_id, cjson.encode({status = status, error_code = error_code}))
  redis.call('ZADD', jobs_by(jobs, 'status:' .. status), redis.call('ZSCORE', jobs, job_id), job_id)
end

-- Take a card out, and what was found by it; its end stays.
local function forget_card(jobs, job_id)
  local text = redis.call('HGET', jobs .. ':cards', job_id)
  if text then
    local card = cjson.decode(text)
    for _, term in ipairs(terms_of(card)) do
      redis.call('ZREM', jobs_by(jobs, term), job_id)
    end
    redis.call('HDEL', jobs .. ':cards', job_id)
    redis.call('DECRBY', jobs .. ':bytes', cost_of(text, card))
  end
end

local function forget_job(jobs, job_id)
  forget_end(jobs, job_id)
  forget_card(jobs, job_id)
  redis.call('ZREM', jobs, job_id)
end
