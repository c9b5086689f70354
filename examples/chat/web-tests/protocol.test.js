import assert from "node:assert/strict";
import { test } from "node:test";

import { cleanName, cleanRoom, cleanText, countChars, parse, socketUrl } from "../web/protocol.js";

const ada = { id: 7, name: "Ada" };
const message = { type: "message", id: 1, from: ada, text: "hi", at: 1_700_000_000_000 };
const welcome = {
  type: "welcome",
  you: 7,
  room: "lobby",
  epoch: 3,
  people: [ada],
  history: [message],
};

test("every message of the protocol is read", () => {
  const all = [
    welcome,
    message,
    { type: "joined", ...ada },
    { type: "left", id: 7 },
    { type: "typing", id: 7 },
    { type: "error", reason: "too fast" },
  ];
  for (const each of all) assert.deepEqual(parse(JSON.stringify(each)), each);
});

test("fields that a later server adds are no obstacle", () => {
  assert.notEqual(parse(JSON.stringify({ ...message, edited: true })), null);
});

test("what is not a JSON object of a known type is ignored", () => {
  const inputs = ["", "{", "null", "true", "1", '"message"', "[]", "[1]", "{}"];
  for (const input of inputs) assert.equal(parse(input), null, input);
  for (const type of ["nonsense", "constructor", "__proto__", "", null, 1, ["message"], {}]) {
    assert.equal(parse(JSON.stringify({ ...message, type })), null, String(type));
  }
});

test("binary messages are ignored", () => {
  assert.equal(parse(new ArrayBuffer(8)), null);
  assert.equal(parse(new Blob(["{}"])), null);
});

const wrong = {
  id: [undefined, null, "1", 1.5, -1, 2 ** 53, [], {}],
  text: [undefined, null, 1, [], {}],
  at: [undefined, null, "now", 1e300],
  from: [undefined, null, "Ada", 7, {}, { id: 7 }, { name: "Ada" }, { id: "7", name: "Ada" }],
};

test("a message with a field missing or of the wrong kind is ignored", () => {
  for (const [field, values] of Object.entries(wrong)) {
    for (const value of values) {
      const input = JSON.stringify({ ...message, [field]: value });
      assert.equal(parse(input), null, input);
    }
  }
});

test("a welcome with anything malformed in it is ignored", () => {
  const cases = [
    { you: "7" },
    { room: 1 },
    { epoch: null },
    { people: {} },
    { people: [ada, null] },
    { people: ["Ada"] },
    { history: "none" },
    { history: [message, null] },
    { history: [{ ...message, type: "joined" }] },
    { history: [{ ...message, from: null }] },
  ];
  for (const each of cases) {
    const input = JSON.stringify({ ...welcome, ...each });
    assert.equal(parse(input), null, input);
  }
});

test("the other messages are checked for their fields as well", () => {
  const cases = [
    { type: "joined", id: 7 },
    { type: "joined", name: "Ada" },
    { type: "left", id: "7" },
    { type: "typing" },
    { type: "error", reason: 5 },
  ];
  for (const each of cases) assert.equal(parse(JSON.stringify(each)), null, each.type);
});

test("characters are counted as code points", () => {
  assert.equal(countChars(""), 0);
  assert.equal(countChars("añ🐦"), 3);
});

test("a name is trimmed and has 1 to 32 characters, none of them a control", () => {
  assert.equal(cleanName("  Ada Lovelace "), "Ada Lovelace");
  assert.equal(cleanName("🐦".repeat(32)), "🐦".repeat(32));
  for (const raw of ["", "   ", "a".repeat(33), "a\tb", "a\u0000", "a\u007fb"]) {
    assert.equal(cleanName(raw), null, JSON.stringify(raw));
  }
});

test("a room has 1 to 64 characters and survives as a path segment", () => {
  assert.equal(cleanRoom(" Tea room "), "Tea room");
  assert.equal(cleanRoom("r".repeat(64)), "r".repeat(64));
  for (const raw of ["", " ", "r".repeat(65), "a\nb", ".", ".."]) {
    assert.equal(cleanRoom(raw), null, JSON.stringify(raw));
  }
});

test("text loses the blank lines around it and keeps the rest", () => {
  assert.equal(cleanText(" \n\n  code {\n\n  }\n \n"), "  code {\n\n  }");
  assert.equal(cleanText(" \n\t\n"), "");
});

test("half a surrogate pair is replaced, as it cannot be sent", () => {
  assert.equal(cleanText("a\ud83d"), "a\ufffd");
  assert.equal(cleanName("\udc26"), "\ufffd");
});

test("the socket's address is on the page's host, percent-encoded", () => {
  assert.equal(
    socketUrl("http://localhost:8080/?room=x#y", "a/b ?#é", "A&B=c"),
    "ws://localhost:8080/rooms/a%2Fb%20%3F%23%C3%A9?name=A%26B%3Dc",
  );
  assert.equal(
    socketUrl("https://example.org/chat/", "r", "n"),
    "wss://example.org/chat/rooms/r?name=n",
  );
});
