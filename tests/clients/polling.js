// A page of `fetch` in a loop: what it was told is what `cursor` says, so a poll that fails is asked again.
// `wait` is 0 for plain polling, which asks again after a while, or the seconds that a long poll waits.
import { say, serve } from "./lines.js";

const PLAIN_SECONDS = 0.05;
const sleep = (seconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); });
  });

let base, token, wait, member;
const loops = new Map(); // room → what ends its loop
const headers = () => (token ? { authorization: `Bearer ${token}` } : {});

async function refused(response) {
  const problem = await response.json();
  return Object.assign(new Error(`${problem.code}: ${problem.detail}`), { problem });
}

async function poll(room, since, signal, seconds) {
  const asked = new URLSearchParams({ room, wait: seconds ?? wait, ...(since && { since }), ...(member && { member }) });
  const response = await fetch(`${base}/poll?${asked}`, { headers: headers(), signal });
  if (!response.ok) throw await refused(response);
  return response.json();
}

function take(room, page) {
  if (!page.recovered) say({ event: "behind", room, last: page.last, cursor: page.cursor });
  for (const message of page.messages)
    say({ event: "message", room: message.room, data: message.data, cursor: message.cursor });
}

async function run(room, page, signal) {
  let since = page.cursor;
  while (!signal.aborted) {
    try {
      if (!wait && !page.more) await sleep(PLAIN_SECONDS, signal);
      page = await poll(room, since, signal);
      take(room, page);
      since = page.cursor;
    } catch (error) {
      if (signal.aborted) break;
      const { code, retry_after_seconds: seconds } = error.problem ?? {};
      if (code && !seconds) {
        say({ event: "error", code });
        break;
      }
      await sleep(seconds ?? 0.2, signal); // limited, or nobody is there: ask the same again
    }
  }
  if (loops.get(room)?.signal === signal) loops.delete(room);
}

serve({
  connect: async (given) => {
    ({ url: base, token, wait = 25, member } = given);
    base = base.replace(/\/$/, "");
  },
  subscribe: async ({ room, since }) => {
    const aborted = new AbortController();
    loops.get(room)?.abort();
    loops.set(room, aborted);
    let page;
    try {
      page = await poll(room, since, aborted.signal, 0);
    } catch (error) {
      loops.delete(room);
      throw error;
    }
    take(room, page);
    run(room, page, aborted.signal);
    return { cursor: page.cursor, recovered: page.recovered, last: page.last };
  },
  unsubscribe: async ({ room }) => {
    loops.get(room)?.abort();
    loops.delete(room);
  },
  publish: async ({ room, data }) => {
    const response = await fetch(`${base}/publish?room=${encodeURIComponent(room)}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers() },
      body: JSON.stringify(data),
    });
    if (!response.ok) throw await refused(response);
  },
  disconnect: async () => {
    for (const aborted of loops.values()) aborted.abort();
    loops.clear();
    say({ event: "closed", reason: "disconnect" });
  },
});
