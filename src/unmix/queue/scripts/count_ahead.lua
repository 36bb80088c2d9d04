-- Count what would be served before another job of a share, as `enter_round` would find its place.
-- KEYS: 1 toWorker  2 unmix:rounds
-- ARGV: 1 share
-- Returns how many elements that is.
local _, before, after = next_round(KEYS[2], ARGV[1])
local length = redis.call('LLEN', KEYS[1])
local place = after and before[1] and redis.call('LPOS', KEYS[1], before[1])
if place then
  return length - place
end
place = after and redis.call('LPOS', KEYS[1], after)
return place and length - place - 1 or length
