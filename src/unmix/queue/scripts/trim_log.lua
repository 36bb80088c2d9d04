-- Cut the log list to its newest lines. Anybody may push lines there, of any length.
-- KEYS: logging
-- ARGV: most lines, most bytes
-- Returns how many lines are left.
redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
local bytes, page = 0, 16
for first = 0, ARGV[1] - 1, page do
    local lines = redis.call('LRANGE', KEYS[1], first, first + page - 1)
    for index, line in ipairs(lines) do
        bytes = bytes + #line
        if bytes > tonumber(ARGV[2]) then
            if first + index == 1 then
                redis.call('DEL', KEYS[1])
            else
                redis.call('LTRIM', KEYS[1], 0, first + index - 2)
            end
            return first + index - 1
        end
    end
    if #lines < page then
        return first + #lines
    end
end
return tonumber(ARGV[1])
