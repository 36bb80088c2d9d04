-- Drop a job from every key, which revokes its token: its song was removed.
-- KEYS: 1 toWorker  2 unmix:taken  3 unmix:leases  4 unmix:open  5 unmix:delayed  6 unmix:failed  7 unmix:marks
--       8 unmix:job:<job_id>  9 unmix:rounds
-- ARGV: 1 job_id  2 token of the worker who found it removed, '' for whoever removes it
-- Returns 1, or 0 if the token is not valid any more.
if ARGV[2] ~= '' and redis.call('HGET', KEYS[8], 'token') ~= ARGV[2] then
  return 0
end
redis.call('LREM', KEYS[1], 0, ARGV[1])
redis.call('LREM', KEYS[2], 0, ARGV[1])
for i = 3, 6 do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
redis.call('HDEL', KEYS[7], 'lease:' .. ARGV[1], 'taken:' .. redis.sha1hex(ARGV[1]))
leave_round(KEYS[9], KEYS[8], ARGV[1])
redis.call('DEL', KEYS[8])
return 1
