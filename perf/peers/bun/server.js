// Bun's own server, which is uWebSockets underneath, as its documentation has it: no permessage-deflate
// (its default), and `publish` on the server, to a topic that every connection subscribes to. It corks what
// is sent while a message is handled, sets TCP_NODELAY, and answers pings and closes. A message may be
// larger than its default of 16 MiB, as with the others.
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: { listen: { type: "string" }, publish: { type: "boolean", default: false } },
});
const at = values.listen?.lastIndexOf(":") ?? -1;
if (at < 0) throw new Error("expected --listen HOST:PORT");

const TOPIC = "all";
const handlers = values.publish
  ? {
      open: (ws) => ws.subscribe(TOPIC),
      message: (_, message) => server.publish(TOPIC, message),
    }
  : { message: (ws, message) => ws.send(message) };

const server = Bun.serve({
  hostname: values.listen.slice(0, at),
  port: Number(values.listen.slice(at + 1)),
  fetch: (request, server) =>
    server.upgrade(request)
      ? undefined
      : new Response("expected a WebSocket handshake\n", { status: 426 }),
  websocket: { ...handlers, perMessageDeflate: false, maxPayloadLength: 64 << 20 },
});
console.log(`listening on ${server.hostname}:${server.port}`);
