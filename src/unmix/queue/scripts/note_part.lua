-- Note that a part is in the store, or with 'missing' that it has to be made again after all.
-- KEYS: 1 unmix:runs:<job_id>
-- ARGV: 1 generation  2 kind of the parts  3 number of the part  4 'there' or 'missing'
-- Returns 1, or 0 if nobody asks for help with these parts any more.
local known = redis.call('HMGET', KEYS[1], 'generation', 'kind')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then
  return 0
end
if ARGV[4] == 'there' then
  redis.call('HSET', KEYS[1], ARGV[3], 'there')
else
  redis.call('HDEL', KEYS[1], ARGV[3])
end
return 1
