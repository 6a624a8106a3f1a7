-- What wrk sends. Arguments after "--": MODE FILE [SEED].
--   fixed FILE        the file's first line is the body of every request
--   once FILE         every line is a body, asked once; load ends with the list, wrk's clock does not
--   random FILE SEED  line 1 and 2 are what stands before and after ten random words; the other
--                     lines are the words
-- "counted-MODE" also counts Cache-Status values, which costs the generator a little.
-- The last line of the output is "RESULT " and one JSON object.

local WORDS = 10
local threads = {}
statuses = {}  -- how often each Cache-Status came, its ttl left out
asked = 0      -- how far down the list a "once" run came
ran_out = false

function setup(thread)
  table.insert(threads, thread)
end

local function lines_of(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  return lines
end

local function ask_once(lines)
  return function()
    if asked < #lines then
      asked = asked + 1
    else
      ran_out = true
      wrk.thread:stop()
    end
    return wrk.format(nil, nil, nil, lines[asked])
  end
end

local function ask_random(lines, seed)
  math.randomseed(seed)
  return function()
    local words = {}
    for i = 1, WORDS do words[i] = lines[math.random(3, #lines)] end
    return wrk.format(nil, nil, nil, lines[1] .. table.concat(words, " ") .. lines[2])
  end
end

local function count_status(code, headers)
  local status = headers["cache-status"] or headers["Cache-Status"] or "none"
  local kind = status:gsub("; ttl=%-?%d+", "")
  statuses[kind] = (statuses[kind] or 0) + 1
end

function init(args)
  local mode, lines = args[1], lines_of(args[2])
  local counted = mode:match("^counted%-(.+)$")
  if counted then
    mode = counted
    response = count_status
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  if mode == "fixed" then wrk.body = lines[1] end
  if mode == "once" then request = ask_once(lines) end
  if mode == "random" then request = ask_random(lines, tonumber(args[3])) end
end

function done(summary, latency, requests)
  local counts = {}
  for kind, count in pairs(threads[1]:get("statuses")) do
    counts[#counts + 1] = string.format("%q:%d", kind, count)
  end
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"microseconds":%d,"p50":%.1f,"p99":%.1f,"asked":%d,"ran_out":%s,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},"statuses":{%s}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    threads[1]:get("asked"), tostring(threads[1]:get("ran_out")),
    e.connect, e.read, e.write, e.status, e.timeout, table.concat(counts, ",")))
end
