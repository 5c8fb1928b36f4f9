// A peer: the same cryptography in Node's own http proxy, and nothing else.
// It signs, verifies and passes on; it logs, counts and bounds nothing, and of an
// answer it checks the signature alone.
//   node node.js KEYS PORT UPSTREAM-PORT
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");

const [keys, port, upstream] = process.argv.slice(2);
const partner = crypto.createPrivateKey(fs.readFileSync(`${keys}/partner.pem`));
const platform = crypto.createPublicKey(
  fs.readFileSync(`${keys}/platform-public.pem`));
const CLIENT_ID = "4Q5Y8W0WSG45P907917";
const agent = new http.Agent({ keepAlive: true });
const HOUR = 3600e3;

const base = (method, target, time, body) => Buffer.concat(
  [Buffer.from(`${method} ${target}\n${CLIENT_ID}.${time}.`), body]);
const now = () =>
  `${new Date(Date.now() + 8 * HOUR).toISOString().slice(0, 19)}+08:00`;
const whole = (stream, then) => {
  const pieces = [];
  stream.on("data", (piece) => pieces.push(piece));
  stream.on("end", () => then(Buffer.concat(pieces)));
};

http.createServer((asked, reply) => whole(asked, (body) => {
  const time = now();
  const signed = base(asked.method, asked.url, time, body);
  const signature = crypto.sign("sha256", signed, partner).toString("base64");
  const sent = http.request({
    port: upstream, agent, method: asked.method, path: asked.url,
    headers: {
      "Client-Id": CLIENT_ID,
      "Content-Type": "application/json; charset=UTF-8",
      "Content-Length": body.length,
      "Request-Time": time,
      Signature: "algorithm=RSA256,keyVersion=1,signature=" +
        encodeURIComponent(signature),
    },
  }, (answer) => whole(answer, (content) => {
    const theirs = /signature=([^,]*)/.exec(answer.headers.signature || "");
    const answered = answer.headers["response-time"] || "";
    const holds = theirs && crypto.verify(
      "sha256", base(asked.method, asked.url, answered, content), platform,
      Buffer.from(decodeURIComponent(theirs[1]), "base64"));
    reply.writeHead(holds ? answer.statusCode : 502, {
      "Content-Type": answer.headers["content-type"],
      "Content-Length": holds ? content.length : 0,
      "Response-Time": answered,
    });
    reply.end(holds ? content : undefined);
  }));
  sent.on("error", () => { reply.statusCode = 502; reply.end(); });
  sent.end(body);
})).listen(port, "127.0.0.1");
