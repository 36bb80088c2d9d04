-- Drop a job from every key, which revokes its token: its song was removed.
-- KEYS: 1 toWorker  2 unmix:taken  3 unmix:leases  4 unmix:open  5 unmix:delayed  6 unmix:marks  7 unmix:job:<job_id>
-- ARGV: 1 job_id
redis.call('LREM', KEYS[1], 0, ARGV[1])
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[6], 'lease:' .. ARGV[1], 'taken:' .. redis.sha1hex(ARGV[1]))
redis.call('DEL', KEYS[7])
return 1
