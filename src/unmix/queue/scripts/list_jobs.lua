-- Return the jobs in some places of a sorted set, the newest first, with all that the list tells of them.
-- KEYS: 1 the sorted set  2 unmix:jobs  3 unmix:job: (what the keys of records begin with)
-- ARGV: 1 first place  2 last place
-- Returns JSON, which clients read far faster than an answer of many parts: a list of [score, job_id, card, end, record];
-- card and end are JSON, false where there is none, record is [status, progress, error_code], false if the job is over.
local members = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'REV', 'WITHSCORES')
local jobs = {}
for i = 1, #members, 2 do
  local job_id = members[i]
  local card = redis.call('HGET', KEYS[2] .. ':cards', job_id)
  local ended = redis.call('HGET', KEYS[2] .. ':ends', job_id)
  local record = card and not ended and redis.call('HMGET', KEYS[3] .. job_id, 'status', 'progress', 'error_code')
  table.insert(jobs, {members[i + 1], job_id, card, ended, record})
end
return #jobs > 0 and cjson.encode(jobs) or '[]'
