// In a page: sends messages and holds that they come back.
const [url, sources, plan, done] = arguments;

const decoded = Object.fromEntries(
  Object.entries(sources).map(([name, text]) => [name, Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]),
);

const payload = ({ source, size, isText }) => {
  const bytes = new Uint8Array(size);
  const from = decoded[source];
  for (let at = 0; at < size; at += from.length) bytes.set(from.subarray(0, size - at), at);
  return isText ? new TextDecoder().decode(bytes) : bytes;
};

const isSame = (one, other) => {
  if (typeof one === "string") return one === other;
  const bytes = new Uint8Array(other);
  return bytes.length === one.length && bytes.every((byte, index) => byte === one[index]);
};

const next = (ws, name) =>
  new Promise((resolve, reject) => {
    ws[`on${name}`] = resolve;
    if (name !== "close") ws.onclose = ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`));
  });

const talk = async () => {
  const ws = new WebSocket(url);
  ws.binaryType = "arraybuffer";
  await next(ws, "open");
  for (const message of plan) {
    const sent = payload(message);
    const answer = next(ws, "message");
    ws.send(sent);
    if (!isSame(sent, (await answer).data)) throw new Error(`another message came back: ${JSON.stringify(message)}`);
  }
  const { extensions } = ws;
  const closed = next(ws, "close");
  ws.close(1000);
  await closed;
  return { extensions };
};

talk().then(done, (error) => done({ error: `${error.stack}` }));
