// A WebSocket that comes back: exponential backoff with full jitter. It knows nothing of the page
// and little of the chat, so that it can be tested with a fake socket and a fake clock.

const BASE_MS = 500;
const CAP_MS = 15_000;
/** A connection that lived this long was a good one: the next failure starts from BASE_MS again. */
const STEADY_MS = 10_000;
/** Browsers may wait minutes for a host that does not answer. */
const CONNECT_TIMEOUT_MS = 10_000;

/** How long to wait before try number `attempt` (from 0). Jitter keeps a crowd from returning as one. */
export function backoffMs(attempt, random = Math.random) {
  return random() * Math.min(CAP_MS, BASE_MS * 2 ** attempt);
}

/** Codes by which the server says that trying again cannot help. */
export function isFinal(code) {
  return code >= 4000 && code <= 4099;
}

/**
 * States: "idle", "connecting", "open", "waiting" (until `retryAt`), "closed" (with `code` and
 * `reason`). A connection is open once the server has let us in, not when it has merely accepted
 * the socket.
 */
export class Connection {
  state = "idle";
  retryAt = 0;
  code = 0;
  reason = "";

  #connect;
  #onState;
  #onMessage;
  #random;
  #now;
  #socket = null;
  #timer = null;
  #attempt = 0;
  #openedAt = 0;

  /**
   * `connect()` returns a new WebSocket. `onState(connection)` and `onMessage(data)` are called
   * back; the latter returns true for the message that lets us in. `now()` is a monotonic clock in
   * milliseconds.
   */
  constructor({ connect, onState, onMessage, random = Math.random, now = () => performance.now() }) {
    this.#connect = connect;
    this.#onState = onState;
    this.#onMessage = onMessage;
    this.#random = random;
    this.#now = now;
  }

  start() {
    if (this.state === "idle") this.#open();
  }

  /** Ends it for good; nothing is called back afterwards. */
  stop() {
    this.state = "closed";
    this.#release();
  }

  /** Cuts a wait short. Without effect in any other state. */
  tryNow() {
    if (this.state === "waiting") this.#open();
  }

  /** Gives up a connection that seems dead, without waiting for the browser to notice. */
  abandon() {
    if (this.state === "open" || this.state === "connecting") this.#lost();
  }

  /** Milliseconds until the next try; 0 when none is waited for. */
  get waitMs() {
    return this.state === "waiting" ? Math.max(0, this.retryAt - this.#now()) : 0;
  }

  /** Sends one JSON message; false when there is no open connection to send it on. */
  send(message) {
    // The socket may be closing already, with the event that says so still to come.
    if (this.state !== "open" || this.#socket.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #open() {
    clearTimeout(this.#timer);
    const socket = this.#connect();
    this.#socket = socket;
    this.#timer = setTimeout(() => this.abandon(), CONNECT_TIMEOUT_MS);
    // A socket that was given up may still speak: only the current one is heard.
    socket.onmessage = (event) => {
      if (socket === this.#socket) this.#received(event.data);
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#closed(event.code, event.reason);
    };
    this.#enter("connecting");
  }

  #received(data) {
    const isIn = this.#onMessage(data);
    if (!isIn || this.state !== "connecting") return;
    clearTimeout(this.#timer);
    this.#openedAt = this.#now();
    this.#enter("open");
  }

  #closed(code, reason) {
    if (!isFinal(code)) return this.#lost();
    this.#release();
    this.code = code;
    this.reason = reason;
    this.#enter("closed");
  }

  #lost() {
    if (this.state === "open" && this.#now() - this.#openedAt >= STEADY_MS) this.#attempt = 0;
    this.#release();
    const wait = backoffMs(this.#attempt, this.#random);
    this.#attempt += 1;
    this.retryAt = this.#now() + wait;
    this.#timer = setTimeout(() => this.#open(), wait);
    this.#enter("waiting");
  }

  #release() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #enter(state) {
    this.state = state;
    this.#onState(this);
  }
}
