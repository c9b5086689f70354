// Node's `ws` sends messages and holds that they come back: node by_node.mjs MODULES ADDRESS PLAN, one line a connection.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { strict as assert } from "node:assert";

const [modules, address, plan] = process.argv.slice(2);
const { WebSocket } = createRequire(`${modules}/`)("ws");
const { offer, sent } = JSON.parse(readFileSync(plan, "utf8"));

const ws = new WebSocket(`ws://${address}/`, { perMessageDeflate: offer && { threshold: 0, ...offer } });
const event = (name) =>
  new Promise((resolve, reject) => {
    ws.once(name, (...values) => resolve(values));
    ws.once("error", reject);
    ws.once("close", () => reject(new Error("closed")));
  });

await event("open");
for (const { file, isText, cuts } of sent) {
  const payload = readFileSync(file);
  const answer = event("message");
  const ends = [...cuts, payload.length];
  let start = 0;
  for (const [index, end] of ends.entries()) {
    ws.send(payload.subarray(start, end), { binary: !isText, fin: index === ends.length - 1 });
    start = end;
  }
  const [bytes, isBinary] = await answer;
  assert.equal(isBinary, !isText);
  assert.ok(payload.equals(bytes), `another message came back: ${file}`);
  ws.removeAllListeners("close");
  ws.removeAllListeners("error");
}
const closed = event("close").catch(() => {});
ws.close(1000);
await closed;
