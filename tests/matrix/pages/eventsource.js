// Chromium's own EventSource, which can send no header: a ticket, or a cookie, says who it is. It publishes by fetch.
let url, token;
const sources = [];

async function call(path, query, options = {}) {
  const address = new URL(path, url);
  for (const [key, value] of Object.entries(query)) address.searchParams.set(key, value);
  const answer = await fetch(address, { ...options, headers: { authorization: `Bearer ${token}`, ...options.headers } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.code}: ${body.detail}`);
  return body;
}

/** Opens a stream. The browser comes back by itself, but only where the ticket still holds: else there is a new one. */
async function open(room, since, opened) {
  const { ticket } = await call("/ticket", {}, { method: "POST" });
  const address = new URL("/sse", url);
  address.searchParams.set("room", room);
  address.searchParams.set("ticket", ticket);
  if (since) address.searchParams.set("since", since);
  const source = new EventSource(address);
  let cursor = since;
  sources.push(source);
  source.onmessage = ({ data, lastEventId }) => {
    cursor = lastEventId;
    say({ event: "message", ...JSON.parse(data) });
  };
  source.addEventListener("subscribed", ({ data, lastEventId }) => {
    cursor = lastEventId || cursor;
    for (const message of JSON.parse(data).last) say({ event: "message", ...message, last: true });
    opened();
  });
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    const again = () => open(room, cursor, opened).catch(() => setTimeout(again, 100));
    setTimeout(again, 100);
  };
}

window.commands = {
  connect: (given) => { ({ url, token } = given); },
  async subscribe({ room, since = "" }) {
    await call("/last", { room }); // an EventSource isn't told why it is refused
    return new Promise((resolve, reject) => open(room, since, resolve).catch(reject));
  },
  publish: ({ room, data }) =>
    call("/publish", { room }, { method: "POST", body: JSON.stringify(data), headers: { "content-type": "application/json" } }),
  disconnect: () => sources.forEach((source) => source.close()),
};
