import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Connection, backoffMs, isFinal } from "../web/reconnect.js";
import * as timers from "./fake-timers.js";

class FakeSocket {
  readyState = 1;
  sent = [];
  closed = false;

  send(data) {
    this.sent.push(data);
  }

  close() {
    this.closed = true;
  }
}

let clock;
let sockets;
let states;
let messages;
let connection;

/** The newest socket that was asked for. */
const socket = () => sockets.at(-1);

function pass(ms) {
  clock += ms;
  timers.tick(ms);
}

function drop(code = 1006, reason = "") {
  socket().onclose({ code, reason });
}

function welcome() {
  socket().onmessage({ data: "welcome" });
}

beforeEach(() => {
  timers.install();
  clock = 1_000;
  sockets = [];
  states = [];
  messages = [];
  connection = new Connection({
    connect() {
      sockets.push(new FakeSocket());
      return socket();
    },
    onState: ({ state }) => states.push(state),
    onMessage(data) {
      messages.push(data);
      return data === "welcome";
    },
    // The longest wait that jitter can yield, all but exactly.
    random: () => 1,
    now: () => clock,
  });
  connection.start();
});

test("a wait lies between zero and a bound that doubles from half a second to 15 s", () => {
  const bounds = [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000];
  bounds.forEach((bound, attempt) => {
    assert.equal(backoffMs(attempt, () => 0), 0);
    assert.equal(backoffMs(attempt, () => 0.5), bound / 2);
    for (let i = 0; i < 200; i += 1) {
      const wait = backoffMs(attempt);
      assert.ok(wait >= 0 && wait < bound, `${wait} at ${attempt}`);
    }
  });
});

test("after very many tries the bound is still 15 s", () => {
  assert.equal(backoffMs(5_000, () => 1), 15_000);
});

test("waits differ, so that a crowd does not return as one", () => {
  const waits = new Set(Array.from({ length: 50 }, () => backoffMs(5)));
  assert.ok(waits.size > 40);
});

test("only the codes 4000 to 4099 are final", () => {
  for (const code of [4000, 4001, 4050, 4099]) assert.equal(isFinal(code), true, code);
  const others = [1000, 1001, 1002, 1005, 1006, 1008, 1009, 1011, 1012, 1013, 3000, 3999, 4100, 4999];
  for (const code of others) assert.equal(isFinal(code), false, code);
});

test("it is open with the welcome, not with the socket nor with another message", () => {
  assert.equal(connection.state, "connecting");
  socket().onmessage({ data: "other" });
  assert.equal(connection.state, "connecting");
  assert.equal(connection.send({}), false);
  welcome();
  assert.deepEqual(states, ["connecting", "open"]);
  assert.deepEqual(messages, ["other", "welcome"]);
  assert.equal(connection.send({ type: "typing" }), true);
  assert.deepEqual(socket().sent, ['{"type":"typing"}']);
});

test("nothing is sent on a socket that is closing", () => {
  welcome();
  socket().readyState = 2;
  assert.equal(connection.send({}), false);
});

test("a lost connection is tried again, each time later", () => {
  for (const wait of [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) {
    const before = sockets.length;
    drop();
    assert.equal(connection.waitMs, wait);
    pass(wait - 1);
    assert.equal(sockets.length, before);
    pass(1);
    assert.equal(sockets.length, before + 1);
    assert.equal(connection.state, "connecting");
  }
});

test("going away and service restart are reasons to come back", () => {
  for (const code of [1001, 1012, 1006, 1011]) {
    drop(code);
    assert.equal(connection.state, "waiting", String(code));
    connection.tryNow();
  }
});

test("a final code ends it, with the server's reason", () => {
  drop(4001, "name too long");
  assert.deepEqual(states, ["connecting", "closed"]);
  assert.equal(connection.code, 4001);
  assert.equal(connection.reason, "name too long");
  connection.tryNow();
  pass(60_000);
  assert.equal(sockets.length, 1);
});

test("only a connection that lasted starts the backoff afresh", () => {
  drop();
  connection.tryNow();
  welcome();
  pass(9_999);
  drop();
  assert.equal(connection.waitMs, 1_000);
  connection.tryNow();
  welcome();
  pass(10_000);
  drop();
  assert.equal(connection.waitMs, 500);
});

test("a wait can be cut short, once", () => {
  drop();
  connection.tryNow();
  connection.tryNow();
  assert.equal(sockets.length, 2);
  pass(500);
  assert.equal(sockets.length, 2);
});

test("a host that does not answer is given up after ten seconds", () => {
  pass(9_999);
  assert.equal(connection.state, "connecting");
  pass(1);
  assert.equal(connection.state, "waiting");
  assert.equal(socket().closed, true);
});

test("once open there is no such limit", () => {
  welcome();
  pass(60_000);
  assert.equal(connection.state, "open");
});

test("an abandoned socket is closed and no longer heard", () => {
  const old = socket();
  welcome();
  connection.abandon();
  assert.equal(old.closed, true);
  connection.tryNow();
  old.onmessage({ data: "late" });
  old.onclose({ code: 4000, reason: "" });
  assert.deepEqual(messages, ["welcome"]);
  assert.equal(connection.state, "connecting");
});

test("after stop nothing is called back and nothing tried", () => {
  welcome();
  const heard = states.length;
  connection.stop();
  drop();
  connection.abandon();
  pass(60_000);
  assert.equal(states.length, heard);
  assert.equal(socket().closed, true);
  assert.equal(sockets.length, 1);
});
