-- wrk sends the bodies in the folder PHOTOS (0.bin, 1.bin, …: forms; 0.json, …: base64) in turn, counts each
-- status, and prints one line of JSON at the end.
local folder, count = os.getenv("PHOTOS"), tonumber(os.getenv("COUNT"))
local kind = os.getenv("KIND")
local threads = {}

function setup(thread)
  thread:set("first", #threads * 7)
  table.insert(threads, thread)
end

function init(args)
  bodies, statuses, turn = {}, {}, first
  for i = 0, count - 1 do
    local file = io.open(folder .. "/" .. i .. "." .. kind, "rb")
    bodies[i] = file:read("*a")
    file:close()
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = kind == "json" and "application/json" or "multipart/form-data; boundary=b0undary"
end

function request()
  turn = turn + 1
  return wrk.format(nil, nil, nil, bodies[turn % count])
end

-- Milliseconds between an answer and the next request of a connection, so that the rate offered is set from outside.
local pause = tonumber(os.getenv("PAUSE_MS") or "0")
if pause > 0 then
  function delay() return pause end
end

function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end

function done(summary, latency)
  local total = {}
  for _, thread in ipairs(threads) do
    for status, n in pairs(thread:get("statuses")) do total[status] = (total[status] or 0) + n end
  end
  local parts = {}
  for status, n in pairs(total) do table.insert(parts, string.format('"%d": %d', status, n)) end
  io.write(string.format('{"seconds": %.3f, "statuses": {%s}, "p50": %.2f, "p99": %.2f, "errors": %d}\n',
    summary.duration / 1e6, table.concat(parts, ", "), latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
