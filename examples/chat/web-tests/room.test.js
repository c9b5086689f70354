import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Outbox, Room, describeTyping, hueOf } from "../web/room.js";

const NOW = Date.UTC(2026, 4, 4, 12);
const me = { id: 1, name: "Ada" };
const bea = { id: 2, name: "Bea" };

let room;

const said = (id, text, from = bea, at = NOW) => ({ type: "message", id, from, text, at });
const receive = (message, now = NOW) => room.receive(message, now);

function welcome({ you = me, epoch = 1, history = [], people = [you, bea] } = {}) {
  return receive({ type: "welcome", you: you.id, room: "lobby", epoch, people, history });
}

/** Rows as short strings, to compare whole logs at a glance. */
const brief = (rows) => rows.map((row) => (row.kind === "message" ? row.text : `(${row.kind})`));

beforeEach(() => {
  room = new Room();
});

test("the history of the first welcome is the log", () => {
  const rows = welcome({ history: [said(4, "one"), said(5, "two", me)] });
  assert.deepEqual(brief(rows), ["one", "two"]);
  assert.deepEqual(rows.map(({ mine }) => mine), [false, true]);
  assert.deepEqual([...room.people.values()], ["Ada", "Bea"]);
});

test("after a reconnect only what was missed is added", () => {
  welcome({ history: [said(1, "one")] });
  receive(said(2, "two"));
  const rows = welcome({ history: [said(1, "one"), said(2, "two"), said(3, "three")] });
  assert.deepEqual(brief(rows), ["three"]);
});

test("a reconnect that missed nothing adds nothing", () => {
  welcome({ history: [said(1, "one")] });
  assert.deepEqual(welcome({ history: [said(1, "one")] }), []);
  assert.deepEqual(welcome(), []);
});

test("a message that comes twice is shown once", () => {
  welcome();
  assert.deepEqual(brief(receive(said(1, "one"))), ["one"]);
  assert.deepEqual(receive(said(1, "one")), []);
  assert.deepEqual(brief(receive(said(2, "two"))), ["two"]);
});

test("message id 0 is an id like any other", () => {
  welcome({ history: [said(0, "zero")] });
  assert.deepEqual(welcome({ history: [said(0, "zero")] }), []);
});

test("a history that does not reach back to the last message seen says so", () => {
  welcome({ history: [said(1, "one")] });
  assert.deepEqual(brief(welcome({ history: [said(2, "two")] })), ["two"]);
  assert.deepEqual(brief(welcome({ history: [said(4, "four")] })), ["(divider)", "four"]);
});

test("a new epoch puts a divider and takes ids from the start", () => {
  welcome({ history: [said(8, "old"), said(9, "older")] });
  assert.deepEqual(brief(welcome({ epoch: 2, history: [said(1, "new")] })), ["(divider)", "new"]);
  assert.deepEqual(brief(receive(said(2, "newer"))), ["newer"]);
});

test("in a new epoch an id that was ours may be someone else's", () => {
  welcome();
  const [, row] = welcome({ epoch: 2, you: { id: 5, name: "Ada" }, history: [said(1, "x", me)] });
  assert.equal(row.mine, false);
});

test("what we said on an earlier connection is still ours", () => {
  welcome();
  const [row] = welcome({ you: { id: 3, name: "Ada" }, history: [said(1, "x", me)] });
  assert.equal(row.mine, true);
});

test("messages of one author within five minutes are grouped", () => {
  welcome();
  const minutes = (n) => NOW + n * 60_000;
  const continues = [
    said(1, "a", bea, minutes(0)),
    said(2, "b", bea, minutes(4)),
    said(3, "c", me, minutes(4)),
    said(4, "d", bea, minutes(4)),
    said(5, "e", bea, minutes(9)),
  ].map((message) => receive(message).at(-1).continues);
  assert.deepEqual(continues, [false, true, false, false, false]);
});

test("a line between two messages ends their group", () => {
  welcome();
  receive(said(1, "a"));
  receive({ type: "joined", id: 9, name: "Cy" });
  assert.equal(receive(said(2, "b")).at(-1).continues, false);
});

test("a day is announced when it is not the one before", () => {
  const day = 24 * 3_600_000;
  const history = [said(1, "a", bea, NOW - 3 * day), said(2, "b", bea, NOW - 3 * day), said(3, "c")];
  assert.deepEqual(brief(welcome({ history })), ["(day)", "a", "b", "(day)", "c"]);
});

test("joins and leaves are told once, our own join not at all", () => {
  welcome();
  assert.deepEqual(receive({ type: "joined", ...me }), []);
  assert.deepEqual(receive({ type: "joined", id: 9, name: "Cy" }), [
    { kind: "system", text: "Cy joined" },
  ]);
  assert.deepEqual(receive({ type: "joined", id: 9, name: "Cy" }), []);
  assert.deepEqual(receive({ type: "left", id: 9 }), [{ kind: "system", text: "Cy left" }]);
  assert.deepEqual(receive({ type: "left", id: 9 }), []);
});

test("two people of one name are two people", () => {
  welcome({ people: [me, bea, { id: 3, name: "Bea" }] });
  receive({ type: "left", id: 3 });
  assert.deepEqual([...room.people.keys()], [1, 2]);
});

test("typing ends with a message, with leaving, and after four seconds", () => {
  welcome();
  const type = () => receive({ type: "typing", id: bea.id });
  type();
  assert.deepEqual(room.typing(NOW + 3_999), ["Bea"]);
  assert.deepEqual(room.typing(NOW + 4_000), []);
  type();
  receive(said(1, "x"));
  assert.deepEqual(room.typing(NOW), []);
  type();
  receive({ type: "left", id: bea.id });
  assert.deepEqual(room.typing(NOW), []);
});

test("neither we nor strangers are shown as typing", () => {
  welcome();
  receive({ type: "typing", id: me.id });
  receive({ type: "typing", id: 99 });
  assert.deepEqual(room.typing(NOW), []);
});

/** Sends the next queued text, as the page does when there is a connection. */
function send(outbox, as, now = NOW) {
  const entry = outbox.next();
  if (entry) outbox.sent(entry, as, now);
}

const outboxStates = () => room.outbox.entries.map(({ text, state }) => [text, state]);

test("our message leaves the outbox with its broadcast", () => {
  welcome();
  room.outbox.add("hello");
  send(room.outbox, me.id);
  receive(said(1, "hello", bea));
  assert.deepEqual(outboxStates(), [["hello", "sent"]]);
  receive(said(2, "hello", me));
  assert.deepEqual(outboxStates(), []);
});

test("one message at a time is under way, in the order they were written", () => {
  welcome();
  room.outbox.add("one");
  room.outbox.add("two");
  send(room.outbox, me.id);
  send(room.outbox, me.id);
  assert.deepEqual(outboxStates(), [["one", "sent"], ["two", "queued"]]);
  receive(said(1, "one", me));
  assert.equal(room.outbox.next().text, "two");
});

test("a message found in the history after a reconnect had arrived", () => {
  welcome();
  room.outbox.add("hello");
  send(room.outbox, me.id);
  room.outbox.interrupt();
  assert.deepEqual(outboxStates(), [["hello", "unsure"]]);
  welcome({ you: { id: 3, name: "Ada" }, history: [said(1, "hello", me)] });
  assert.deepEqual(outboxStates(), []);
});

test("a message that may have arrived is sent again only when asked to", () => {
  welcome();
  room.outbox.add("hello");
  send(room.outbox, me.id);
  room.outbox.interrupt();
  welcome({ you: { id: 3, name: "Ada" } });
  assert.equal(room.outbox.next(), null);
  room.outbox.retry(room.outbox.entries[0].key);
  assert.equal(room.outbox.next().text, "hello");
});

test("after a restart someone else's message does not settle ours", () => {
  welcome();
  room.outbox.add("hello");
  send(room.outbox, me.id);
  room.outbox.interrupt();
  welcome({ epoch: 2, you: { id: 1, name: "Ada" }, history: [] });
  receive(said(1, "other", { id: 1, name: "Ada" }));
  assert.deepEqual(outboxStates(), [["hello", "unsure"]]);
});

test("an error is the answer to the message under way, or else a line in the log", () => {
  welcome();
  room.outbox.add("hello");
  send(room.outbox, me.id);
  assert.deepEqual(receive({ type: "error", reason: "too fast" }), []);
  assert.equal(room.outbox.entries[0].reason, "too fast");
  assert.deepEqual(outboxStates(), [["hello", "refused"]]);
  assert.deepEqual(receive({ type: "error", reason: "too fast" }), [
    { kind: "system", text: "too fast" },
  ]);
});

test("the outbox holds twenty messages and no more", () => {
  const outbox = new Outbox();
  for (let i = 0; i < 20; i += 1) assert.equal(outbox.add(`${i}`), true);
  assert.equal(outbox.isFull, true);
  assert.equal(outbox.add("one too many"), false);
  assert.equal(outbox.entries.length, 20);
});

test("a message can be discarded unless it is under way", () => {
  const outbox = new Outbox();
  outbox.add("one");
  outbox.add("two");
  send(outbox, me.id);
  const [one, two] = outbox.entries;
  assert.equal(outbox.discard(one.key), null);
  assert.equal(outbox.discard(two.key), two);
  outbox.retry(one.key);
  assert.deepEqual(outbox.entries, [one]);
});

test("ten seconds without a receipt mean that the connection is dead", () => {
  const outbox = new Outbox();
  outbox.add("one");
  assert.equal(outbox.isOverdue(NOW + 60_000), false);
  send(outbox, me.id, NOW);
  assert.equal(outbox.isOverdue(NOW + 9_999), false);
  assert.equal(outbox.isOverdue(NOW + 10_000), true);
  outbox.interrupt();
  assert.equal(outbox.isOverdue(NOW + 10_000), false);
});

test("any number of people can be typing", () => {
  assert.equal(describeTyping([]), "");
  assert.equal(describeTyping(["Ada"]), "Ada is typing…");
  assert.equal(describeTyping(["Ada", "Bea"]), "Ada and Bea are typing…");
  assert.equal(describeTyping(["Ada", "Bea", "Cy"]), "Several people are typing…");
});

test("a name keeps its hue, and names differ in theirs", () => {
  assert.equal(hueOf("Ada"), hueOf("Ada"));
  const hues = new Set(["Ada", "Bea", "Cy", "Dot", "Eve", "Flo"].map(hueOf));
  assert.ok(hues.size > 2);
  for (const hue of hues) assert.ok(hue >= 0 && hue < 360 && hue % 30 === 0);
});
