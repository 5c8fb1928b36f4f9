-- wrk's script: POST one body; give the figures of the run as one line of JSON.
--   wrk ... -s load.lua URL -- BODY-FILE true|false
function init(args)
    local file = assert(io.open(args[1], "rb"))
    wrk.method = "POST"
    wrk.body = file:read("*a")
    wrk.headers["Content-Type"] = "application/json"
    if args[2] == "true" then
        wrk.headers["Gateway-Encrypt"] = "true"
    end
    file:close()
end

local whole
function request()
    whole = whole or wrk.format()
    return whole
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format(
        '{"exchanges":%d,"seconds":%f,"p50_s":%f,"p99_s":%f,' ..
        '"failed":%d,"cut":%d}\n',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
