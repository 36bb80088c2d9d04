-- Say that help is welcome with a job: into how many parts it falls, and which of them are there.
-- KEYS: 1 unmix:help  2 unmix:runs:<job_id>  3 unmix:job:<job_id>
-- ARGV: 1 job_id  2 token of the claim  3 generation  4 kind of the parts  5 how many parts  6 samples of a part
--       7 level of the song, JSON  8 numbers of the parts that are there, JSON  9 seconds until all this is forgotten
-- Returns 1, or 0 if the token is not valid any more.
if redis.call('HGET', KEYS[3], 'token') ~= ARGV[2] then
  return 0
end
local known = redis.call('HMGET', KEYS[2], 'generation', 'kind')
if known[1] ~= ARGV[3] or known[2] ~= ARGV[4] then
  redis.call('DEL', KEYS[2])
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'NX', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('HSET', KEYS[2], 'generation', ARGV[3], 'kind', ARGV[4])
redis.call('HSET', KEYS[2], 'parts', ARGV[5], 'length', ARGV[6], 'level', ARGV[7])
for _, part in ipairs(cjson.decode(ARGV[8])) do
  redis.call('HSET', KEYS[2], part, 'there')
end
redis.call('EXPIRE', KEYS[2], ARGV[9])
return 1
