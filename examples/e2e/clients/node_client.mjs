// Node's `ws` against echo: node node_client.mjs MODULES ADDRESS; one line a check.
import { createRequire } from "node:module";
import { strict as assert } from "node:assert";

const [modules, address] = process.argv.slice(2);
const { WebSocket } = createRequire(`${modules}/`)("ws");
const PATIENCE = 20_000;

const open = (options = {}) =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws://${address}/`, { perMessageDeflate: false, ...options });
    ws.once("open", () => resolve(ws));
    ws.once("error", reject);
  });

const next = (ws, event) =>
  new Promise((resolve, reject) => {
    ws.once(event, (...values) => resolve(values));
    ws.once("error", reject);
  });

const echo = async (ws, data) => {
  const answer = next(ws, "message");
  ws.send(data);
  const [bytes, isBinary] = await answer;
  assert.equal(isBinary, typeof data !== "string");
  assert.ok(Buffer.from(data).equals(bytes), `${data.length} bytes differ`);
};

const checks = {
  async "echo of text and binary of many lengths"() {
    const ws = await open();
    for (const length of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
      await echo(ws, "x".repeat(length));
      await echo(ws, Buffer.alloc(length, 7));
    }
    ws.terminate();
  },
  async "echo of fragments"() {
    const ws = await open();
    const answer = next(ws, "message");
    ws.send("one ", { fin: false });
    ws.send("message", { fin: true });
    assert.equal(String((await answer)[0]), "one message");
    ws.terminate();
  },
  async "pings are answered"() {
    const ws = await open();
    const pong = next(ws, "pong");
    ws.ping("are you there?");
    assert.equal(String((await pong)[0]), "are you there?");
    ws.terminate();
  },
  async "close codes come back"() {
    for (const code of [1000, 1001, 3000, 4999]) {
      const ws = await open();
      const closed = next(ws, "close");
      ws.close(code, "bye");
      assert.equal((await closed)[0], code);
    }
  },
  async "a long message is closed with 1009"() {
    const ws = await open();
    const closed = next(ws, "close");
    ws.send(Buffer.alloc((1 << 20) + 1));
    const [code, reason] = await closed;
    assert.equal(code, 1009);
    assert.equal(String(reason), "message too big");
  },
  async "an offer of permessage-deflate is ignored, and messages pass"() {
    const ws = await open({ perMessageDeflate: true });
    assert.equal(ws.extensions, "");
    await echo(ws, "x".repeat(10_000));
    ws.terminate();
  },
  async "200 connections at once"() {
    const all = await Promise.all(Array.from({ length: 200 }, () => open()));
    await Promise.all(
      all.map(async (ws, index) => {
        for (let count = 0; count < 20; count += 1) await echo(ws, `${index} ${count}`);
        ws.terminate();
      }),
    );
  },
};

for (const [name, check] of Object.entries(checks)) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("took too long")), PATIENCE);
  });
  try {
    await Promise.race([check(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`FAILED ${name}: ${error.stack.replaceAll("\n", " | ")}`);
  } finally {
    clearTimeout(timer);
  }
}
// Connections of a check that failed must not keep it alive.
process.exit(0);
