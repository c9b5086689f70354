// What is known of a room: who is in it, which messages were seen, what of ours is on its way.
// Rows for the log come out of it in the order they are to be shown; drawing them is chat.js's part.

const GROUP_MS = 5 * 60_000;
const OUTBOX_ENTRIES_MAX = 20;
/** A message without its receipt for this long: the connection is dead, whatever the browser says. */
const RECEIPT_TIMEOUT_MS = 10_000;
/** Others repeat "typing" every 2 s, so silence for this long means that they stopped. */
const TYPING_MS = 4_000;

export class Room {
  you = null;
  /** Names by person id. */
  people = new Map();
  outbox = new Outbox();

  #epoch = null;
  #lastId = null;
  /** Every id we had in this epoch: each connection is given its own. */
  #own = new Set();
  #typingUntil = new Map();
  #previous = null;
  #day = null;

  /**
   * Takes one message from the server and returns the rows it adds to the log. `now` is the wall
   * clock in milliseconds. A row is `{ kind: "message", id, from, text, at, mine, continues }`,
   * `{ kind: "system" | "divider", text }` or `{ kind: "day", at }`.
   */
  receive(message, now) {
    switch (message.type) {
      case "welcome":
        return this.#welcome(message, now);
      case "message":
        return this.#message(message, now);
      case "joined":
        return this.#joined(message);
      case "left":
        return this.#left(message);
      case "typing":
        if (message.id !== this.you) this.#typingUntil.set(message.id, now + TYPING_MS);
        return [];
      case "error":
        return this.outbox.refuse(message.reason) ? [] : [this.#line("system", message.reason)];
      default:
        return [];
    }
  }

  /** The names of those who are typing at the moment. */
  typing(now) {
    const names = [];
    for (const [id, until] of this.#typingUntil) {
      if (until > now && this.people.has(id)) names.push(this.people.get(id));
      else this.#typingUntil.delete(id);
    }
    return names;
  }

  #welcome({ you, epoch, people, history }, now) {
    const rows = [];
    if (this.#epoch !== null && this.#epoch !== epoch) {
      // Message ids and person ids start again: nothing known may be compared with them.
      this.#lastId = null;
      this.#own.clear();
      this.outbox.forgetIds();
      rows.push(this.#line("divider", "The server restarted. Messages above are from before."));
    } else if (this.#lastId !== null && history[0]?.id > this.#lastId + 1) {
      rows.push(this.#line("divider", "Some messages may be missing here"));
    }
    this.#epoch = epoch;
    this.you = you;
    this.#own.add(you);
    this.people = new Map(people.map(({ id, name }) => [id, name]));
    this.#typingUntil.clear();
    for (const message of history) rows.push(...this.#message(message, now));
    return rows;
  }

  #joined({ id, name }) {
    if (this.people.has(id)) return [];
    this.people.set(id, name);
    return id === this.you ? [] : [this.#line("system", `${name} joined`)];
  }

  #left({ id }) {
    const name = this.people.get(id);
    if (!this.people.delete(id)) return [];
    return [this.#line("system", `${name} left`)];
  }

  /** Ids only grow within an epoch and arrive in order, so the highest seen is all to remember. */
  #message({ id, from, text, at }, now) {
    if (this.#lastId !== null && id <= this.#lastId) return [];
    this.#lastId = id;
    this.#typingUntil.delete(from.id);
    const mine = this.#own.has(from.id);
    if (mine) this.outbox.settle(from.id);

    const rows = [];
    const day = new Date(at).toDateString();
    if (day !== (this.#day ?? new Date(now).toDateString())) {
      rows.push({ kind: "day", at });
      this.#previous = null;
    }
    this.#day = day;
    const previous = this.#previous;
    const continues =
      previous !== null &&
      (previous.from.id === from.id || (mine && previous.mine)) &&
      at - previous.at < GROUP_MS;
    const row = { kind: "message", id, from, text, at, mine, continues };
    this.#previous = row;
    rows.push(row);
    return rows;
  }

  #line(kind, text) {
    this.#previous = null;
    return { kind, text };
  }
}

/**
 * Our messages between the Send button and their receipt, which is their own broadcast. An entry
 * is `{ key, text, state, reason }`:
 *
 * - "queued": not sent yet; goes out by itself when there is a connection.
 * - "sent": its receipt is awaited. At most one is, so that a receipt or an error has one meaning.
 * - "unsure": the connection was lost before the receipt. It may have arrived, so it is not sent
 *   again unasked; a receipt found in the history after a reconnect still settles it.
 * - "refused": the server answered with an error, its `reason`.
 */
export class Outbox {
  entries = [];
  #nextKey = 1;

  get isFull() {
    return this.entries.length >= OUTBOX_ENTRIES_MAX;
  }

  /** Queues a text; false when there are too many already. */
  add(text) {
    if (this.isFull) return false;
    this.entries.push({ key: this.#nextKey, text, state: "queued", reason: "", as: null, sentAt: 0 });
    this.#nextKey += 1;
    return true;
  }

  /** The entry whose turn it is, or null. */
  next() {
    if (this.#inFlight()) return null;
    return this.entries.find(({ state }) => state === "queued") ?? null;
  }

  /** `as` is the person id that the receipt will carry. */
  sent(entry, as, now) {
    entry.state = "sent";
    entry.as = as;
    entry.sentAt = now;
  }

  settle(as) {
    const index = this.entries.findIndex((entry) => entry.as === as);
    if (index >= 0) this.entries.splice(index, 1);
  }

  /** False when nothing was awaiting an answer. */
  refuse(reason) {
    const entry = this.#inFlight();
    if (!entry) return false;
    entry.state = "refused";
    entry.reason = reason;
    entry.as = null;
    return true;
  }

  /** The connection is gone, and with it the receipt under way. */
  interrupt() {
    const entry = this.#inFlight();
    if (entry) entry.state = "unsure";
  }

  forgetIds() {
    for (const entry of this.entries) entry.as = null;
  }

  /** Sends an unsure or refused entry once more, after those that are queued. */
  retry(key) {
    const entry = this.discard(key);
    if (!entry) return;
    this.entries.push({ ...entry, state: "queued", reason: "", as: null });
  }

  /** Takes out an entry and returns it; one that is under way stays. */
  discard(key) {
    const index = this.entries.findIndex((entry) => entry.key === key && entry.state !== "sent");
    return index >= 0 ? this.entries.splice(index, 1)[0] : null;
  }

  isOverdue(now) {
    const entry = this.#inFlight();
    return entry !== undefined && now - entry.sentAt >= RECEIPT_TIMEOUT_MS;
  }

  #inFlight() {
    return this.entries.find(({ state }) => state === "sent");
  }
}

/** "Ada is typing…", for any number of people. */
export function describeTyping(names) {
  if (names.length === 0) return "";
  if (names.length === 1) return `${names[0]} is typing…`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return "Several people are typing…";
}

/** A hue in degrees, always the same for the same name (FNV-1a, spread over twelve). */
export function hueOf(name) {
  let hash = 0x811c9dc5;
  for (const char of name) {
    hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193) >>> 0;
  }
  return (hash % 12) * 30;
}
