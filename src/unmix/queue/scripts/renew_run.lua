-- Extend the lease of a run, or give back what is left of it.
-- KEYS: 1 unmix:runs:<job_id>  2 unmix:job:<job_id>
-- ARGV: 1 generation  2 token  3 lease in ms, 0 to give back
-- Returns 1, or 0 if the job is over, or was removed or submitted anew.
local listed = redis.call('HGETALL', KEYS[1])
for i = 1, #listed, 2 do
  if string.match(listed[i + 1], '^%d+:(.*)$') == ARGV[2] then
    if tonumber(ARGV[3]) == 0 then
      redis.call('HDEL', KEYS[1], listed[i])
    else
      local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      redis.call('HSET', KEYS[1], listed[i], string.format('%.0f', now + tonumber(ARGV[3])) .. ':' .. ARGV[2])
    end
  end
end
local known = redis.call('HMGET', KEYS[2], 'status', 'generation')
local open = (known[1] == 'running' or known[1] == 'queued') and (not known[2] or known[2] == ARGV[1])
return open and 1 or 0
