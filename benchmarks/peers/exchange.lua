-- One exchange: sign, pass on, verify, pass back.
local CLIENT_ID = "4Q5Y8W0WSG45P907917"

local function base(target, time, body)
    return ngx.req.get_method() .. " " .. target .. "\n" ..
        CLIENT_ID .. "." .. time .. "." .. body
end

return function()
    ngx.req.read_body()
    local target, body = ngx.var.request_uri, ngx.req.get_body_data() or ""
    local time = os.date("!%Y-%m-%dT%H:%M:%S+08:00", ngx.time() + 8 * 3600)
    local signature = rsa.sign(partner, base(target, time, body))
    local answer = ngx.location.capture("/-" .. target, {
        method = ngx.HTTP_POST,
        body = body,
        vars = {
            client_id = CLIENT_ID,
            request_time_text = time,
            signature = "algorithm=RSA256,keyVersion=1,signature=" ..
                ngx.escape_uri(ngx.encode_base64(signature)),
        },
    })
    local header = answer.header
    local theirs = ngx.decode_base64(ngx.unescape_uri(
        string.match(header["Signature"] or "", "signature=([^,]*)") or ""))
    local answered = header["Response-Time"] or ""
    if answer.truncated or not theirs or
        not rsa.verify(platform, theirs, base(target, answered, answer.body)) then
        return ngx.exit(502)
    end
    ngx.status = answer.status
    ngx.header["Content-Type"] = header["Content-Type"]
    ngx.header["Content-Length"] = #answer.body
    ngx.header["Response-Time"] = answered
    ngx.print(answer.body)
end
