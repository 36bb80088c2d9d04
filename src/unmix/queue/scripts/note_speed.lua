-- Add a song to the sums of a model's speed; when they are of enough songs, all of them count half.
-- KEYS: 1 unmix:speed:<model>
-- ARGV: 1 most songs  2.. what to add to songs, song_seconds, work_seconds, squares, products
local fields = {'songs', 'song_seconds', 'work_seconds', 'squares', 'products'}
local known = redis.call('HMGET', KEYS[1], unpack(fields))
local share = tonumber(known[1] or 0) >= tonumber(ARGV[1]) and 0.5 or 1
for i, field in ipairs(fields) do
  redis.call('HSET', KEYS[1], field, tostring(share * tonumber(known[i] or 0) + tonumber(ARGV[i + 1])))
end
return 1
