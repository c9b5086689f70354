// setTimeout under a test's control. Node's own mock changed its interface between versions 18 and 20,
// and Debian has both.

let now = 0;
let lastId = 0;
const timers = new Map();

/** Takes the place of setTimeout and clearTimeout, and forgets every timer that was set. */
export function install() {
  timers.clear();
  globalThis.setTimeout = (run, ms) => {
    lastId += 1;
    timers.set(lastId, { due: now + ms, run });
    return lastId;
  };
  globalThis.clearTimeout = (id) => timers.delete(id);
}

/** Lets `ms` milliseconds pass, and runs what falls due, in order. */
export function tick(ms) {
  const end = now + ms;
  for (;;) {
    const due = [...timers].filter(([, timer]) => timer.due <= end);
    if (due.length === 0) break;
    const [id, timer] = due.reduce((a, b) => (b[1].due < a[1].due ? b : a));
    timers.delete(id);
    now = timer.due;
    timer.run();
  }
  now = end;
}
