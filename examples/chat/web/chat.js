// The page: joining, drawing what room.js knows, and the composer. Text from others only ever
// becomes textContent.

import {
  NAME_CHARS_MAX,
  ROOM_CHARS_MAX,
  SUBPROTOCOL,
  TEXT_CHARS_MAX,
  cleanName,
  cleanRoom,
  cleanText,
  countChars,
  parse,
  socketUrl,
} from "./protocol.js";
import { Connection } from "./reconnect.js";
import { Room, describeTyping, hueOf } from "./room.js";

const TITLE = "Quelea chat";
const NAME_KEY = "quelea-chat.name";
const ROWS_MAX = 1000;
const TICK_MS = 500;
const TYPING_EVERY_MS = 2_000;
/** Closer to the end than this counts as being there. */
const BOTTOM_PX = 48;

const byId = (id) => document.getElementById(id);
const page = {
  join: byId("join"),
  joinForm: byId("join-form"),
  joinRoom: byId("join-room"),
  joinName: byId("join-name"),
  joinError: byId("join-error"),
  room: byId("room"),
  roomName: byId("room-name"),
  status: byId("status"),
  retry: byId("retry"),
  leave: byId("leave"),
  peopleCount: byId("people-count"),
  people: byId("people"),
  peopleList: byId("people-list"),
  messages: byId("messages"),
  empty: byId("empty"),
  log: byId("log"),
  outbox: byId("outbox"),
  newer: byId("newer"),
  typing: byId("typing"),
  composer: byId("composer"),
  text: byId("text"),
  send: byId("send"),
  note: byId("composer-note"),
  announcer: byId("announcer"),
};

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "short" });

/**
 * The room we are in, or null: `{ model, connection, roomName, items, ticker }`, `items` being the
 * drawn people by id.
 */
let session = null;
let unread = 0;
let newer = 0;
let atBottom = true;
let typingSentAt = -Infinity;

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Writes only what changed: the ticker calls this often, and screen readers listen. */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// Joining

/** Browsers may forbid storage; then the name is not remembered. */
function storedName() {
  try {
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return "";
  }
}

function storeName(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // See storedName().
  }
}

function showJoin({ room, name, problem = "" }) {
  endSession();
  page.room.hidden = true;
  page.join.hidden = false;
  page.joinRoom.value = room || page.joinRoom.defaultValue;
  page.joinName.value = name || storedName();
  showProblem(problem);
  (page.joinName.value === "" ? page.joinName : page.joinRoom).focus();
}

function showProblem(text, field = null) {
  page.joinError.textContent = text;
  for (const input of [page.joinRoom, page.joinName]) {
    input.setAttribute("aria-invalid", String(input === field));
  }
  field?.focus();
}

/** Joins, or says on the form what is wrong. Returns the room and name as cleaned, or null. */
function join(rawRoom, rawName) {
  const room = cleanRoom(rawRoom);
  const name = cleanName(rawName);
  if (room !== null && name !== null) {
    storeName(name);
    startSession(room, name);
    return { room, name };
  }
  if (session || page.join.hidden) showJoin({ room: rawRoom, name: rawName });
  if (room === null) {
    showProblem(`A room name has 1 to ${ROOM_CHARS_MAX} characters.`, page.joinRoom);
  } else {
    showProblem(`A name has 1 to ${NAME_CHARS_MAX} characters.`, page.joinName);
  }
  return null;
}

page.joinForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const joined = join(page.joinRoom.value, page.joinName.value);
  if (!joined) return;
  // The address can be shared, so it does not carry the name; the entry remembers it for a reload.
  history.pushState(joined, "", `?room=${encodeURIComponent(joined.room)}`);
});

page.leave.addEventListener("click", () => {
  history.pushState(null, "", location.pathname);
  showJoin({ room: session?.roomName });
});

window.addEventListener("popstate", route);

/** Shows what the address asks for. */
function route() {
  const query = new URLSearchParams(location.search);
  const room = history.state?.room ?? query.get("room");
  const name = history.state?.name ?? query.get("name");
  if (room !== null && name !== null) join(room, name);
  else showJoin({ room, name });
}

// The session

function startSession(roomName, name) {
  endSession();
  const model = new Room();
  const connection = new Connection({
    connect: () => new WebSocket(socketUrl(location.href, roomName, name), SUBPROTOCOL),
    onState: stateChanged,
    onMessage: received,
  });
  const ticker = setInterval(tick, TICK_MS);
  session = { model, connection, roomName, items: new Map(), ticker };

  page.log.replaceChildren();
  page.roomName.textContent = roomName;
  page.empty.hidden = true;
  setUnread(0);
  page.join.hidden = true;
  page.room.hidden = false;
  drawPeople();
  drawCount();
  drawOutbox();
  drawComposer();
  scrollToEnd();
  page.text.focus();
  connection.start();
}

function endSession() {
  if (!session) return;
  clearInterval(session.ticker);
  session.connection.stop();
  session = null;
  setUnread(0);
  if (page.people.matches(":popover-open")) page.people.hidePopover();
}

function stateChanged(connection) {
  if (connection.state === "closed") {
    const problem = connection.reason || "The server closed the connection for good.";
    showJoin({ room: session.roomName, problem });
    return;
  }
  page.status.dataset.state = connection.state;
  page.retry.hidden = connection.state !== "waiting";
  if (connection.state === "open") {
    setText(page.announcer, "Connected");
    flushOutbox();
  } else {
    session.model.outbox.interrupt();
    if (connection.state === "waiting") setText(page.announcer, "Connection lost, trying again");
  }
  drawOutbox();
  drawComposer();
  tick();
}

/** Returns true for the message that lets us in. Nothing before it has a meaning yet. */
function received(data) {
  const { model, connection } = session;
  const message = parse(data);
  const isWelcome = message?.type === "welcome";
  if (!message || (!isWelcome && connection.state !== "open")) return false;
  const rows = model.receive(message, Date.now());
  // A history at once is for reading, not for being read out.
  if (isWelcome) page.messages.setAttribute("aria-live", "off");
  appendRows(rows, !isWelcome);
  if (isWelcome) requestAnimationFrame(() => page.messages.setAttribute("aria-live", "polite"));

  if (isWelcome) drawPeople();
  else if (message.type === "joined") addPerson(message.id, message.name);
  else if (message.type === "left") removePerson(message.id);
  drawCount();
  flushOutbox();
  drawOutbox();
  drawTyping();
  return isWelcome;
}

function tick() {
  const { model, connection } = session;
  drawStatus(connection);
  drawTyping();
  if (model.outbox.isOverdue(Date.now())) connection.abandon();
}

function drawStatus({ state, waitMs }) {
  const seconds = Math.ceil(waitMs / 1000);
  const texts = {
    connecting: "Connecting…",
    open: "Connected",
    waiting: seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting…",
  };
  setText(page.status, texts[state] ?? "");
}

page.retry.addEventListener("click", () => {
  session?.connection.tryNow();
  // The button is gone now, and the focus must not be lost with it.
  page.text.focus();
});

window.addEventListener("online", () => session?.connection.tryNow());
window.addEventListener("offline", () => session?.connection.abandon());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  session?.connection.tryNow();
  setUnread(0);
});
window.addEventListener("focus", () => setUnread(0));

function setUnread(count) {
  unread = count;
  const name = session ? `${session.roomName} · ${TITLE}` : TITLE;
  document.title = count > 0 ? `(${count}) ${name}` : name;
}

// The log

function appendRows(rows, isNews) {
  page.log.append(...rows.map(drawRow));
  while (page.log.childElementCount > ROWS_MAX) page.log.firstElementChild.remove();
  page.empty.hidden = page.log.childElementCount > 0;
  if (rows.length === 0) return;

  const others = rows.filter(({ kind, mine }) => kind === "message" && !mine).length;
  const isAway = document.hidden || !document.hasFocus();
  // The first history is no news, but what came while the connection was lost is.
  const isFirst = !isNews && page.log.childElementCount === rows.length;
  if (others > 0 && isAway && !isFirst) setUnread(unread + others);
  if (atBottom) scrollToEnd();
  else if (others > 0) showNewer(newer + others);
}

function drawRow(row) {
  if (row.kind === "message") return drawMessage(row);
  const text = row.kind === "day" ? calendar.format(row.at) : row.text;
  const item = element("li", row.kind, text);
  item.dataset.testid = row.kind;
  return item;
}

function drawMessage({ from, text, at, mine, continues }) {
  const item = element("li", "message");
  item.dataset.testid = "message";
  item.classList.toggle("mine", mine);
  item.classList.toggle("continues", continues);

  const author = element("bdi", "author", from.name);
  author.dataset.testid = "author";
  author.style.setProperty("--hue", hueOf(from.name));

  const time = element("time", "", clock.format(at));
  time.dateTime = new Date(at).toISOString();
  time.title = moment.format(at);

  item.append(author, drawBubble(text, time));
  return item;
}

function drawBubble(text, ...after) {
  const body = element("span", "text", text);
  body.dataset.testid = "text";
  body.dir = "auto";
  const bubble = element("div", "bubble");
  bubble.append(body, ...after);
  return bubble;
}

function scrollToEnd() {
  page.messages.scrollTop = page.messages.scrollHeight;
  atBottom = true;
  showNewer(0);
}

function showNewer(count) {
  newer = count;
  page.newer.hidden = count === 0;
  if (count > 0) setText(page.newer, count === 1 ? "1 new message" : `${count} new messages`);
}

page.messages.addEventListener("scroll", () => {
  const { scrollTop, scrollHeight, clientHeight } = page.messages;
  atBottom = scrollHeight - scrollTop - clientHeight < BOTTOM_PX;
  if (atBottom) showNewer(0);
});

// A phone's keyboard or a growing composer must not hide the last message.
new ResizeObserver(() => {
  if (atBottom) scrollToEnd();
}).observe(page.messages);

page.newer.addEventListener("click", () => {
  scrollToEnd();
  page.text.focus();
});

// Who is here

function drawPeople() {
  session.items.clear();
  page.peopleList.replaceChildren();
  for (const [id, name] of session.model.people) addPerson(id, name);
}

function addPerson(id, name) {
  const { items, model } = session;
  if (items.has(id)) return;
  const item = element("li", "person");
  item.dataset.testid = "person";
  item.style.setProperty("--hue", hueOf(name));
  item.append(element("bdi", "", name));
  if (id === model.you) item.append(element("span", "you", "you"));
  items.set(id, item);
  page.peopleList.append(item);
}

function removePerson(id) {
  session.items.get(id)?.remove();
  session.items.delete(id);
}

function drawCount() {
  setText(page.peopleCount, String(session.model.people.size));
}

function drawTyping() {
  setText(page.typing, describeTyping(session.model.typing(Date.now())));
}

// In a wide window the list is a column of its own, which a popover cannot be.
matchMedia("(width >= 50rem)").addEventListener("change", () => {
  if (page.people.matches(":popover-open")) page.people.hidePopover();
});

// The composer

function flushOutbox() {
  const { model, connection } = session;
  const entry = model.outbox.next();
  if (entry && connection.send({ type: "message", text: entry.text })) {
    model.outbox.sent(entry, model.you, Date.now());
  }
}

function drawOutbox() {
  const { entries } = session.model.outbox;
  const drawn = new Map([...page.outbox.children].map((item) => [item.dataset.entry, item]));
  const wanted = entries.map((entry) => {
    const old = drawn.get(String(entry.key));
    return old?.dataset.state === entry.state ? old : drawPending(entry);
  });
  const isSame =
    wanted.length === page.outbox.childElementCount &&
    wanted.every((item, index) => item === page.outbox.children[index]);
  if (isSame) return;
  page.outbox.replaceChildren(...wanted);
  if (atBottom) scrollToEnd();
  drawComposer();
}

function drawPending({ key, text, state, reason }) {
  const item = element("li", "message mine pending");
  item.dataset.testid = "pending";
  item.dataset.entry = key;
  item.dataset.state = state;

  const texts = {
    queued: "Waiting to be sent",
    sent: "Sending…",
    unsure: "Not confirmed: it may have arrived",
    refused: `Not sent: ${reason}`,
  };
  const line = element("div", "state");
  line.append(element("span", "", texts[state]));
  const actions = element("span", "actions");
  if (state === "unsure" || state === "refused") {
    actions.append(drawAction("Send again", (outbox) => outbox.retry(key)));
  }
  if (state !== "sent") actions.append(drawAction("Discard", (outbox) => outbox.discard(key)));
  line.append(actions);
  item.append(drawBubble(text), line);
  return item;
}

function drawAction(label, act) {
  const button = element("button", "link", label);
  button.type = "button";
  button.addEventListener("click", () => {
    act(session.model.outbox);
    flushOutbox();
    drawOutbox();
    page.text.focus();
  });
  return button;
}

/** The text that Send would take now, or null. */
function sendable() {
  const text = cleanText(page.text.value);
  const fits = text !== "" && countChars(text) <= TEXT_CHARS_MAX;
  return fits && !session.model.outbox.isFull ? text : null;
}

function drawComposer() {
  // Not `disabled`: that would take the focus away from those who press it by keyboard.
  page.send.setAttribute("aria-disabled", String(sendable() === null));

  const over = countChars(cleanText(page.text.value)) - TEXT_CHARS_MAX;
  let note = "";
  if (over > 0) note = `${over} ${over === 1 ? "character" : "characters"} too long`;
  else if (session.model.outbox.isFull) note = "Too many messages are waiting. Your text stays here.";
  else if (over > -200) note = `${-over} characters left`;
  setText(page.note, note);
  page.note.classList.toggle("problem", over > 0);

  // One line more than it needs would show as a gap: measure from nothing.
  page.text.style.height = "0";
  const border = page.text.offsetHeight - page.text.clientHeight;
  page.text.style.height = `${page.text.scrollHeight + border}px`;
}

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = sendable();
  if (text === null) return;
  session.model.outbox.add(text);
  page.text.value = "";
  // With a message the others stop showing that we type: the next key may say so at once.
  typingSentAt = -Infinity;
  flushOutbox();
  drawOutbox();
  drawComposer();
  scrollToEnd();
  page.text.focus();
});

page.text.addEventListener("keydown", (event) => {
  // While an input method composes, Enter chooses a candidate.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.composer.requestSubmit();
});

page.text.addEventListener("input", () => {
  drawComposer();
  const now = performance.now();
  if (page.text.value.trim() === "" || now - typingSentAt < TYPING_EVERY_MS) return;
  if (session.connection.send({ type: "typing" })) typingSentAt = now;
});

route();
