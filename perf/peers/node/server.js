// ws for Node.js, tuned as its README has it: `bufferutil`, its native addon, unmasks; no permessage-deflate
// ("can severely impact performance") unless it is asked for, and then as its README's example tunes it. Its other addon, `utf-8-validate`, is for Node.js before 18.14, which
// checks UTF-8 by itself since. ws sets TCP_NODELAY, answers pings and closes, and writes each message at
// once, header and payload together.
import { parseArgs } from "node:util";
import { WebSocket, WebSocketServer } from "ws";

const { values } = parseArgs({
  options: {
    listen: { type: "string" },
    publish: { type: "boolean", default: false },
    deflate: { type: "string", default: "off" },
  },
});
const at = values.listen?.lastIndexOf(":") ?? -1;
if (at < 0) throw new Error("expected --listen HOST:PORT");
const host = values.listen.slice(0, at);
const port = Number(values.listen.slice(at + 1));

// What is published waits for a connection that does not read; one that is further behind is closed.
const BUFFERED_MAX = 16 << 20;

// Each message by itself, or with those before it.
const noTakeover = { off: null, shared: true, takeover: false }[values.deflate];
if (noTakeover === undefined) throw new Error("expected --deflate off, shared or takeover");
const perMessageDeflate = noTakeover !== null && {
  zlibDeflateOptions: { chunkSize: 1024, memLevel: 7, level: 3 },
  zlibInflateOptions: { chunkSize: 10 * 1024 },
  clientNoContextTakeover: noTakeover,
  serverNoContextTakeover: noTakeover,
  concurrencyLimit: 10,
  threshold: 1024,
};

const server = new WebSocketServer({
  host,
  port,
  backlog: 4096,
  perMessageDeflate,
  clientTracking: values.publish,
});

function publish(data, binary) {
  for (const client of server.clients) {
    if (client.bufferedAmount > BUFFERED_MAX) client.terminate();
    else if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
  }
}

server.on("connection", (ws) => {
  // How a connection ends is nobody's concern.
  ws.on("error", () => {});
  if (values.publish) ws.on("message", publish);
  else ws.on("message", (data, binary) => ws.send(data, { binary }));
});
server.on("listening", () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
