-- What the scripts that keep the list of jobs have in common; put before them. `jobs` is the key unmix:jobs.
-- Each tenant has sorted sets of its own; on the cards of the main one there is no tenant.

-- The key of the jobs of a card's tenant that share something, such as 'label:demo'; all of them without a term.
local function jobs_by(jobs, card, term)
  if not card.tenant then
    return term and jobs .. ':by:' .. term or jobs
  end
  return jobs .. ':by:tenant:' .. card.tenant .. (term and ':' .. term or '')
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

local function forget_end(jobs, job_id, card)
  local ended = redis.call('HGET', jobs .. ':ends', job_id)
  if ended then
    redis.call('ZREM', jobs_by(jobs, card, 'status:' .. cjson.decode(ended).status), job_id)
    redis.call('HDEL', jobs .. ':ends', job_id)
  end
end

local function note_end(jobs, job_id, card, status, error_code)
  forget_end(jobs, job_id, card)
  redis.call('ZREM', jobs_by(jobs, card, 'open'), job_id)
  redis.call('HSET', jobs .. ':ends', job_id, cjson.encode({status = status, error_code = error_code}))
  local submitted_at = redis.call('ZSCORE', jobs_by(jobs, card), job_id)
  redis.call('ZADD', jobs_by(jobs, card, 'status:' .. status), submitted_at, job_id)
end

-- Take a card out, and what was found by it; its end stays.
local function forget_card(jobs, job_id, text, card)
  for _, term in ipairs(terms_of(card)) do
    redis.call('ZREM', jobs_by(jobs, card, term), job_id)
  end
  redis.call('ZREM', jobs_by(jobs, card, 'open'), job_id)
  redis.call('HDEL', jobs .. ':cards', job_id)
  redis.call('DECRBY', jobs .. ':bytes', cost_of(text, card))
end

-- Take a job from the set of its tenant's, and the tenant from that of all if it was the last one.
local function leave_tenant(jobs, job_id, card)
  redis.call('ZREM', jobs_by(jobs, card), job_id)
  if card.tenant and redis.call('ZCARD', jobs_by(jobs, card)) == 0 then
    redis.call('ZREM', jobs .. ':tenants', card.tenant)
  end
end

local function forget_job(jobs, job_id)
  local text = redis.call('HGET', jobs .. ':cards', job_id)
  if text then
    local card = cjson.decode(text)
    forget_end(jobs, job_id, card)
    forget_card(jobs, job_id, text, card)
    leave_tenant(jobs, job_id, card)
  end
end
