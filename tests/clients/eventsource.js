// What stands in for EventSource where there is none, or where it has to send a header: `eventsource` by default, or
// `event-source-polyfill`. A room is a stream. With `ticket`, the token is changed for one that stands in the address.
import { EventSource } from "eventsource";
import polyfill from "event-source-polyfill";
import { say, serve } from "./lines.js";

const streams = new Map(); // room → EventSource
let base, token, library, ticket, member;

const headers = () => (token ? { authorization: `Bearer ${token}` } : {});

async function refused(response) {
  const problem = await response.json();
  return new Error(`${problem.code}: ${problem.detail}`);
}

async function post(path, body) {
  const response = await fetch(base + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body,
  });
  if (!response.ok) throw await refused(response);
  return response.json();
}

function open(url) {
  if (library === "event-source-polyfill") return new polyfill.EventSourcePolyfill(url, { headers: ticket ? {} : headers() });
  if (ticket || !token) return new EventSource(url);
  return new EventSource(url, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers() } }),
  });
}

// What no EventSource tells: why it wasn't let in.
async function why(url) {
  const aborted = new AbortController();
  const response = await fetch(url, { headers: headers(), signal: aborted.signal });
  try {
    return response.ok ? new Error(`status ${response.status}`) : await refused(response);
  } finally {
    aborted.abort();
  }
}

async function subscribe({ room, since, topic = false }) {
  const asked = new URLSearchParams({ [topic ? "topic" : "room"]: room, ...(since && { since }), ...(member && { member }) });
  if (ticket) asked.set("ticket", (await post("/ticket")).ticket);
  const url = `${base}/sse?${asked}`;
  streams.get(room)?.close();
  const source = open(url);
  streams.set(room, source);
  source.onmessage = ({ data, lastEventId }) => {
    const message = JSON.parse(data);
    say({ event: "message", room: message.room, data: message.data, cursor: lastEventId });
  };
  for (const kind of ["joined", "left", "upstream", "welcome"])
    source.addEventListener(kind, ({ data }) => say({ event: kind, ...JSON.parse(data) }));
  source.addEventListener("bye", ({ data }) => say({ event: "closed", reason: JSON.parse(data).code }));
  return new Promise((resolve, reject) => {
    source.addEventListener("subscribed", ({ data }) => {
      const subscribed = JSON.parse(data);
      say({ event: "subscribed", ...subscribed });
      resolve({ cursor: subscribed.cursor, recovered: subscribed.recovered, last: subscribed.last });
    });
    source.addEventListener("error", async (event) => {
      if (event.data) say({ event: "error", code: JSON.parse(event.data).code }); // the gateway's own, of a room
      else say({ event: "interrupted", closed: source.readyState === 2 });
      if (source.readyState === 2) reject(await why(url));
    });
  });
}

serve({
  connect: async (given) => {
    ({ url: base, token, library = "eventsource", ticket = false, member } = given);
    base = base.replace(/\/$/, "");
  },
  subscribe,
  unsubscribe: async ({ room }) => {
    streams.get(room)?.close();
    streams.delete(room);
  },
  publish: async ({ room, data }) => {
    await post(`/publish?room=${encodeURIComponent(room)}`, JSON.stringify(data));
  },
  disconnect: async () => {
    for (const source of streams.values()) source.close();
    streams.clear();
    say({ event: "closed", reason: "disconnect" });
  },
});
