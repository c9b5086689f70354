// What goes over the wire (PROTOCOL.md): limits, cleaning of what the user typed, and reading of
// what the server sent. Nothing here touches the page.

export const SUBPROTOCOL = "chat.quelea.v1";
export const ROOM_CHARS_MAX = 64;
export const NAME_CHARS_MAX = 32;
export const TEXT_CHARS_MAX = 2000;

/** Characters as the server counts them: Unicode code points, not UTF-16 units. */
export function countChars(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

// Half a surrogate pair cannot be sent as UTF-8; it becomes U+FFFD. (String.toWellFormed does the
// same, but not in every browser and Node that is still in use.)
function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

function cleanLine(raw, charsMax) {
  const line = wellFormed(raw).trim();
  const fits = line !== "" && countChars(line) <= charsMax;
  return fits && !/\p{Cc}/u.test(line) ? line : null;
}

/** The name as the server will see it, or null when it would refuse it. */
export function cleanName(raw) {
  return cleanLine(raw, NAME_CHARS_MAX);
}

/** The room as the server will see it, or null when it would refuse it. */
export function cleanRoom(raw) {
  const room = cleanLine(raw, ROOM_CHARS_MAX);
  // As a path segment these two vanish from an address, even percent-encoded.
  return room === "." || room === ".." ? null : room;
}

/** The text without blank lines around it. Its length is the caller's to check. */
export function cleanText(raw) {
  return wellFormed(raw).trimEnd().replace(/^(\s*\n)+/, "");
}

/** The address of a room's WebSocket, relative to the page so that a path prefix survives. */
export function socketUrl(page, room, name) {
  const url = new URL(`rooms/${encodeURIComponent(room)}`, page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = `?name=${encodeURIComponent(name)}`;
  return url.href;
}

const isText = (value) => typeof value === "string";
const isId = (value) => Number.isSafeInteger(value) && value >= 0;
/** Beyond this a Date is invalid and formatting it throws. */
const isTime = (value) => Number.isFinite(value) && Math.abs(value) <= 8.64e15;
const isPerson = (value) => isId(value?.id) && isText(value.name);
const isMessage = (value) =>
  value?.type === "message" &&
  isId(value.id) &&
  isPerson(value.from) &&
  isText(value.text) &&
  isTime(value.at);
const isListOf = (value, isItem) => Array.isArray(value) && value.every(isItem);

const isValid = new Map([
  [
    "welcome",
    (m) =>
      isId(m.you) &&
      isText(m.room) &&
      isId(m.epoch) &&
      isListOf(m.people, isPerson) &&
      isListOf(m.history, isMessage),
  ],
  ["joined", isPerson],
  ["left", (m) => isId(m.id)],
  ["typing", (m) => isId(m.id)],
  ["message", isMessage],
  ["error", (m) => isText(m.reason)],
]);

/** A message from the server, or null for one that is malformed or of a type not known here. */
export function parse(data) {
  if (!isText(data)) return null;
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    return null;
  }
  return isValid.get(message?.type)?.(message) ? message : null;
}
