// Tidegate's client: rooms over WebSocket or Server-Sent Events, reconnecting by itself. No dependency, no build step.
// docs/javascript-client.md says how to use it, docs/wire-protocol.md what it speaks.

const SUBPROTOCOL = "tidegate.v1.json";
const FIRST_PAUSE_SECONDS = 0.5;
const LONGEST_PAUSE_SECONDS = 15;
const ANSWER_SECONDS = 10;
const DEVICE_SECONDS = 10; // what the gateway gives a device, unless asked for another time
const PRESENCE = new Set(["joined", "left", "presence"]);
const GONE_FOR_GOOD = new Set([1002, 1007, 1009, 4400, 4401, 4403]);

/**
 * What the gateway answered, or why it didn't: `code` is the protocol's, or `timeout`, `disconnected`, `closed`,
 * `unsupported`, or `unexpected` for an answer that isn't the gateway's.
 */
export class TidegateError extends Error {
  constructor(code, message, retryAfterSeconds) {
    super(message);
    this.name = "TidegateError";
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Connects to a gateway, and again whenever the connection is lost. See `tidegate.d.ts` for the options. */
export function connect(options = {}) {
  return new Gate(options);
}

/** An endpoint of the gateway, with the client's key, if it has one. */
function endpoint(name, { url, member }) {
  const found = new URL(name, url);
  if (member !== undefined) found.searchParams.set("member", member);
  return found;
}

/** Whether another token can be had when one expires or is refused. */
const renews = ({ token }) => typeof token === "function";

/** The headers that say who this is, with a token that is new if it can be; or what the session cookie needs beside it. */
async function credentials({ token, csrf }) {
  const value = async (given) => (typeof given === "function" ? given() : given);
  if (token !== undefined) return { authorization: `Bearer ${await value(token)}` };
  const beside = await value(csrf);
  return beside ? { "x-csrf-token": beside } : {};
}

/** A ticket for an address, since browsers send no header with WebSocket and EventSource; it can be used once. */
async function ticketFor(options) {
  const request = { method: "POST", headers: await credentials(options), signal: AbortSignal.timeout(ANSWER_SECONDS * 1000) };
  const response = await options.fetch(new URL("ticket", options.url).href, request);
  const answer = await response.json().catch(() => null);
  if (response.ok && typeof answer?.ticket === "string") return answer.ticket;
  if (typeof answer?.code === "string") throw errorFrom(answer);
  throw new TidegateError("unexpected", `expected a ticket, got another answer with status ${response.status}`);
}

/** Whether a refused ticket may be had later; what is wrong with a fixed token stays wrong. */
function mayRetry(error, options) {
  return renews(options) || !(error.code === "unauthenticated" || error.code === "forbidden");
}

/** Whether a room is one that `pattern` (with `+` and `#`) stands for. */
export function matches(pattern, room) {
  const wanted = pattern.split("/");
  const levels = room.split("/");
  for (let i = 0; i < wanted.length; i += 1) {
    if (wanted[i] === "#") return true;
    if (i >= levels.length || (wanted[i] !== "+" && wanted[i] !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}

const KEEPS = ["last", "mean", "min", "max"];

/** A sampling by its name, or "" for none: each has a cursor of its own. */
function nameOf(sample) {
  return sample ? `${sample.seconds} ${sample.keep}` : "";
}

/** Of several samplings, the one that holds, as the gateway sees it: none, else the shortest period. */
function finest(samples) {
  const rank = (sample) => (sample ? sample.seconds + 1e-9 * KEEPS.indexOf(sample.keep) : 0);
  return samples.reduce((one, other) => (rank(other) < rank(one) ? other : one));
}

/**
 * One lasting relation with a gateway. Dispatches `state`, `gap`, `upstream` and `error` events; `state` is also a
 * property.
 */
class Gate extends EventTarget {
  #options;
  #link = null;
  #rooms = new Map(); // pattern → {callbacks: Map of subscription → {callback, sample}, sample}
  #told = new Set(); // patterns of which all was heard up to the cursor of their sampling
  #cursors = new Map(); // name of a sampling → cursor
  #away = new Set(); // upstreams that the gateway can't reach
  #states = new Map(); // room → the state that was set there
  #attempts = 0;
  #retry = null;
  #patience = null;
  #closed = false;
  #wake = () => this.#woken();

  constructor(options) {
    super();
    this.#options = {
      transport: "websocket",
      WebSocket: globalThis.WebSocket,
      EventSource: globalThis.EventSource,
      fetch: (...request) => globalThis.fetch(...request),
      random: Math.random,
      ...options,
      url: new URL(options.url ?? ".", globalThis.location?.href),
    };
    this.state = "connecting";
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    this.#open();
  }

  /**
   * Calls `callback(message, {last})` for the last values of a room or pattern, then for each message; with
   * `sample: {seconds, keep}` for at most one of each topic in so many seconds.
   */
  subscribe(room, callback, { sample = null } = {}) {
    let entry = this.#rooms.get(room);
    if (!entry) {
      entry = { callbacks: new Map(), sample: undefined };
      this.#rooms.set(room, entry);
    }
    const subscription = { room, unsubscribe: () => this.#unsubscribe(subscription, entry) };
    entry.callbacks.set(subscription, { callback, sample: sample && { keep: "last", ...sample } });
    this.#resample(room, entry, true);
    return subscription;
  }

  #unsubscribe(subscription, entry) {
    const { room } = subscription;
    if (!entry.callbacks.delete(subscription)) return;
    if (entry.callbacks.size > 0) return this.#resample(room, entry, false);
    this.#rooms.delete(room);
    this.#told.delete(room);
    this.#states.delete(room);
    this.#link?.unsubscribe(room);
  }

  /** Subscribes if somebody came, or if another sampling holds now. */
  #resample(room, entry, came) {
    const sample = finest([...entry.callbacks.values()].map((one) => one.sample));
    const changed = nameOf(sample) !== nameOf(entry.sample);
    if (changed) this.#told.delete(room);
    entry.sample = sample;
    if (!came && !changed) return;
    if (this.state === "open" || this.#options.transport === "sse") this.#link?.subscribe(room, null, sample);
  }

  /**
   * Sends data into a room; resolves once the gateway has acknowledged it, rejects with a `TidegateError`. With a `key`,
   * the same may be sent again without harm.
   */
  publish(room, data, { key } = {}) {
    return this.#whenOpen((link) => link.publish(room, data, key));
  }

  /** Asks the device behind a room; resolves with its answer, rejects with a `TidegateError`. */
  request(room, data, { timeoutSeconds } = {}) {
    return this.#whenOpen((link) => link.request(room, data, timeoutSeconds));
  }

  /** Asks who is in a room; resolves with `{count, members}`, the members only where they aren't too many. */
  presence(room) {
    return this.#whenOpen((link) => link.presence(room));
  }

  /** Sets a state in a room that was subscribed to by its name, again after each reconnection; resolves as `presence`. */
  async setPresence(room, state) {
    const answer = await this.#whenOpen((link) => link.presence(room, { state }));
    this.#states.set(room, state);
    return answer;
  }

  /** Ends it for good. */
  close() {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#patience);
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    this.#link?.close();
    this.#link = null;
    this.#become("closed");
  }

  #whenOpen(send) {
    if (this.#closed) return Promise.reject(new TidegateError("closed", "the client was closed"));
    if (this.state !== "open") return Promise.reject(new TidegateError("disconnected", "there is no connection now"));
    return send(this.#link);
  }

  #open() {
    const Link = this.#options.transport === "sse" ? EventStream : Socket;
    const link = new Link(this.#options, () => this.#wanted(), () => this.#states, {
      open: () => link === this.#link && this.#opened(),
      hear: (object) => link === this.#link && this.#hear(object),
      lost: (again) => link === this.#link && this.#lost(again),
    });
    this.#link = link;
    this.#patience = setTimeout(() => {
      this.#lost(true);
      link.close();
    }, ANSWER_SECONDS * 1000);
    link.open();
  }

  #opened() {
    clearTimeout(this.#patience);
    this.#attempts = 0;
    this.#become("open");
  }

  #lost(again) {
    this.#link = null;
    clearTimeout(this.#patience);
    if (this.#closed || !again) return this.#become("closed");
    this.#become("reconnecting");
    const longest = Math.min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#retry = setTimeout(() => this.#open(), (0.2 + 0.8 * this.#options.random()) * longest * 1000);
  }

  /** The machine slept or moved, perhaps: don't wait to reconnect, and don't trust a connection that seems open. */
  #woken() {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (this.state === "open") this.#link.check();
    if (this.state !== "reconnecting" || this.#link) return;
    clearTimeout(this.#retry);
    this.#open();
  }

  /** What to subscribe to: groups of patterns, each with its sampling and the cursor to come back with, or null. */
  #wanted() {
    const groups = new Map();
    for (const [room, { sample }] of this.#rooms) {
      const since = this.#told.has(room) ? (this.#cursors.get(nameOf(sample)) ?? null) : null;
      const name = `${since} ${nameOf(sample)}`;
      if (!groups.has(name)) groups.set(name, { rooms: [], since, sample });
      groups.get(name).rooms.push(room);
    }
    // The finest first, since that holds where patterns overlap; then those that come back.
    const order = (a, b) => {
      if (nameOf(a.sample) !== nameOf(b.sample)) return finest([a.sample, b.sample]) === a.sample ? -1 : 1;
      return (a.since === null) - (b.since === null);
    };
    return [...groups.values()].sort(order);
  }

  /** Keeps an object's cursor with those of the subscription that brought it. */
  #remember({ type, room, cursor, sample }) {
    if (type === "subscribed" && cursor) this.#cursors.set(nameOf(sample), cursor);
    if (type !== "message") return;
    const samples = [...this.#rooms].filter(([pattern]) => matches(pattern, room)).map(([, entry]) => entry.sample);
    if (samples.length > 0) this.#cursors.set(nameOf(finest(samples)), cursor);
  }

  #hear(object) {
    this.#remember(object);
    if (object.type === "message") this.#deliver(object, object.room, false);
    else if (object.type === "subscribed") this.#subscribed(object);
    else if (object.type === "welcome") this.#allUp();
    else if (object.type === "upstream") this.#turned(object.name, object.state);
    else if (PRESENCE.has(object.type)) this.#tell(object.type, object);
    else if (object.type === "error") this.#tell("error", errorFrom(object));
  }

  /** After a welcome those that are away are named, and only those. */
  #allUp() {
    for (const name of [...this.#away]) this.#turned(name, "up");
  }

  #turned(name, state) {
    if (this.#away.has(name) === (state === "down")) return;
    if (state === "down") this.#away.add(name);
    else this.#away.delete(name);
    this.#tell("upstream", { name, state });
  }

  #tell(type, detail) {
    this.dispatchEvent(Object.assign(new Event(type), { detail }));
  }

  /** Who hasn't heard the last of several lacks last values. */
  #subscribed({ room, recovered, last, more }) {
    if (!this.#rooms.has(room)) return;
    if (!more) {
      if (this.#told.has(room) && !recovered) this.#tell("gap", { room });
      this.#told.add(room);
    }
    for (const message of last) this.#deliver(message, room, true);
  }

  /** Last values go to the pattern that was subscribed to, messages to every pattern that matches. */
  #deliver(message, room, last) {
    for (const [pattern, { callbacks }] of this.#rooms) {
      if (last ? pattern === room : matches(pattern, room)) {
        for (const { callback } of callbacks.values()) call(callback, message, last);
      }
    }
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.#tell("state", state);
  }
}

/** A callback's fault is its page's to see, and keeps no message from the others. */
function call(callback, message, last) {
  try {
    callback(message, { last });
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

function errorFrom(object) {
  return new TidegateError(object.code, object.message ?? object.detail, object.retry_after_seconds);
}

function replyFrom({ data, binary }) {
  return binary ? { data, binary } : { data };
}

/** One WebSocket, from handshake to close. */
class Socket {
  #options;
  #wanted;
  #states;
  #on;
  #socket = null;
  #answers = new Map(); // id → {resolve, reject, timer}
  #number = 0;
  #again = true;
  #heard = true;
  #watch = null;
  #renewal = null;
  #gone = false;

  constructor(options, wanted, states, on) {
    this.#options = options;
    this.#wanted = wanted;
    this.#states = states;
    this.#on = on;
  }

  open() {
    if (this.#options.token === undefined) return this.#dial(null);
    ticketFor(this.#options).then(
      (ticket) => this.#gone || this.#dial(ticket),
      (error) => {
        this.#on.hear({ type: "error", code: error.code ?? "disconnected", message: error.message });
        this.#on.lost(mayRetry(error, this.#options));
      },
    );
  }

  #dial(ticket) {
    const url = endpoint("ws", this.#options);
    if (ticket !== null) url.searchParams.set("ticket", ticket);
    url.protocol = url.protocol.replace("http", "ws");
    this.#socket = new this.#options.WebSocket(url.href, SUBPROTOCOL);
    this.#socket.onmessage = (event) => this.#hear(JSON.parse(event.data));
    this.#socket.onclose = (event) => this.#closed(event.code);
    this.#socket.onerror = () => {};
  }

  subscribe(room, since, sample) {
    this.#send({ type: "subscribe", room, ...(since === null ? {} : { since }), ...(sample ? { sample } : {}) });
  }

  unsubscribe(room) {
    this.#send({ type: "unsubscribe", room });
  }

  publish(room, data, key) {
    return this.#ask({ type: "publish", room, data, key });
  }

  /** The gateway keeps the device's time; it is only given up here if the gateway says nothing at all. */
  async request(room, data, timeoutSeconds) {
    const asked = { type: "request", room, data, timeout_seconds: timeoutSeconds };
    return replyFrom(await this.#ask(asked, (timeoutSeconds ?? DEVICE_SECONDS) + ANSWER_SECONDS));
  }

  async presence(room, said) {
    const { data } = await this.#ask({ type: "presence", room, ...said });
    return data;
  }

  close() {
    this.#again = false;
    this.#gone = true;
    clearTimeout(this.#renewal);
    this.#socket?.close(1000);
  }

  /** Shows a new token before the one that holds now expires; if that fails, there will be a new connection. */
  #renewBefore(expiresAt) {
    clearTimeout(this.#renewal);
    if (!renews(this.#options) || !expiresAt) return;
    const wait = Math.min(Math.max(1000, (expiresAt * 1000 - Date.now()) * 0.8), 2 ** 31 - 1);
    this.#renewal = setTimeout(async () => {
      try {
        const { identity } = await this.#ask({ type: "auth", token: await this.#options.token() });
        this.#renewBefore(identity.expires_at);
      } catch (error) {
        this.#on.hear({ type: "error", code: error.code ?? "disconnected", message: error.message });
      }
    }, wait);
  }

  /** Asks whether the gateway is there. */
  check() {
    this.#ask({ type: "ping" }).catch(() => this.#abandon());
  }

  #send(object) {
    if (this.#socket.readyState === 1) this.#socket.send(JSON.stringify(object));
  }

  #ask(object, patienceSeconds = ANSWER_SECONDS) {
    this.#number += 1;
    const id = this.#number;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#answers.delete(id);
        reject(new TidegateError("timeout", "the gateway did not answer"));
      }, patienceSeconds * 1000);
      this.#answers.set(id, { resolve, reject, timer });
      this.#send({ ...object, id });
    });
  }

  #hear(object) {
    this.#heard = true;
    const answer = object.id === undefined ? undefined : this.#answers.get(object.id);
    if (answer) {
      this.#answers.delete(object.id);
      clearTimeout(answer.timer);
      if (object.type === "error") answer.reject(errorFrom(object));
      else answer.resolve(object);
      return;
    }
    if (object.type === "welcome") {
      this.#watch = setInterval(() => this.#watchOver(), object.heartbeat_seconds * 1000);
      this.#renewBefore(object.identity?.expires_at);
      const most = this.#options.bytesPerSecond;
      if (most) this.#send({ type: "bandwidth", bytes_per_second: most });
      for (const { rooms, since, sample } of this.#wanted()) this.subscribe(rooms, since, sample);
      for (const [room, state] of this.#states()) this.#send({ type: "presence", room, state });
      this.#on.open(); // last: what a page says to an open gate comes after its subscriptions
    } else if (object.type === "bye") this.#again = object.retry;
    this.#on.hear(object);
  }

  /** A page doesn't see pings; so it asks itself whether the gateway is there when nothing comes. */
  #watchOver() {
    if (!this.#heard) this.check();
    this.#heard = false;
  }

  #abandon() {
    this.#socket.onclose = null;
    this.#socket.close();
    this.#closed(1006);
  }

  #closed(code) {
    clearInterval(this.#watch);
    clearTimeout(this.#renewal);
    const expired = code === 4401 && renews(this.#options) && !this.#gone;
    for (const { reject, timer } of this.#answers.values()) {
      clearTimeout(timer);
      reject(new TidegateError("disconnected", "the connection was lost before the answer"));
    }
    this.#answers.clear();
    this.#on.lost(expired || (this.#again && !GONE_FOR_GOOD.has(code)));
  }
}

/** One EventSource over all rooms, opened anew when they change; what it sends goes by POST. */
class EventStream {
  #options;
  #wanted;
  #on;
  #source = null;
  #change = null;
  #turn = 0;
  #again = true;

  constructor(options, wanted, states, on) {
    this.#options = options;
    this.#wanted = wanted;
    this.#on = on;
  }

  open() {
    this.#changed();
  }

  subscribe() {
    this.#changed();
  }

  unsubscribe() {
    this.#changed();
  }

  close() {
    this.#turn += 1;
    clearTimeout(this.#change);
    this.#source?.close();
  }

  /** The browser watches its own stream; there is no way to ask. */
  check() {}

  publish(room, data, key) {
    const headers = key === undefined ? {} : { "idempotency-key": key };
    return this.#post("publish", { room }, data, ANSWER_SECONDS, headers);
  }

  async request(room, data, timeoutSeconds) {
    const query = timeoutSeconds === undefined ? { room } : { room, timeout_seconds: timeoutSeconds };
    const patienceSeconds = (timeoutSeconds ?? DEVICE_SECONDS) + ANSWER_SECONDS;
    return replyFrom(await this.#post("request", query, data, patienceSeconds));
  }

  async presence(room, said) {
    if (said) throw new TidegateError("unsupported", "a state can be set over WebSocket only");
    const { count, members } = await this.#call("presence", { room }, { method: "GET" }, ANSWER_SECONDS);
    return members === undefined ? { count } : { count, members };
  }

  #post(name, query, data, patienceSeconds, more = {}) {
    const headers = { "content-type": "application/json", ...more };
    return this.#call(name, query, { method: "POST", headers, body: JSON.stringify(data) }, patienceSeconds);
  }

  async #call(name, query, request, patienceSeconds) {
    const url = new URL(name, this.#options.url);
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
    const signal = AbortSignal.timeout(patienceSeconds * 1000);
    let response;
    try {
      const headers = { ...request.headers, ...(await credentials(this.#options)) };
      response = await this.#options.fetch(url.href, { ...request, headers, signal });
    } catch (error) {
      throw new TidegateError(signal.aborted ? "timeout" : "disconnected", `the gateway did not answer: ${error.message}`);
    }
    const answer = await response.json().catch(() => null);
    if (response.ok && answer !== null) return answer;
    if (typeof answer?.code === "string") throw errorFrom(answer);
    throw new TidegateError("unexpected", `expected the gateway's answer, got another with status ${response.status}`);
  }

  /** Several changes of one turn make one new stream. */
  #changed() {
    clearTimeout(this.#change);
    this.#change = setTimeout(() => this.#stream(), 0);
  }

  #stream() {
    this.#source?.close();
    const wanted = this.#wanted();
    if (wanted.length === 0) return this.#on.open(); // nothing to hear, and publishing needs no stream
    const url = endpoint("sse", this.#options);
    if (this.#options.bytesPerSecond) url.searchParams.set("bytes_per_second", this.#options.bytesPerSecond);
    const resumes = wanted.some(({ since }) => since !== null);
    const samples = wanted.some(({ sample }) => sample);
    for (const { rooms, since, sample } of wanted) {
      for (const room of rooms) {
        url.searchParams.append("room", room);
        if (resumes) url.searchParams.append("since", since ?? "");
        if (samples) url.searchParams.append("sample", sample?.seconds ?? "");
        if (samples) url.searchParams.append("sample_keep", sample?.keep ?? "");
      }
    }
    if (this.#options.token === undefined) return this.#listen(url);
    const turn = (this.#turn += 1);
    ticketFor(this.#options).then(
      (ticket) => {
        if (turn !== this.#turn) return;
        url.searchParams.set("ticket", ticket);
        this.#listen(url);
      },
      (error) => {
        if (turn !== this.#turn) return;
        this.#on.hear({ type: "error", code: error.code ?? "disconnected", message: error.message });
        this.#on.lost(mayRetry(error, this.#options));
      },
    );
  }

  #listen(url) {
    const source = new this.#options.EventSource(url.href);
    this.#source = source;
    const hear = (event) => {
      const object = JSON.parse(event.data);
      if (object.type === "welcome") this.#on.open();
      else if (object.type === "bye") this.#again = object.retry || (object.code === "unauthenticated" && renews(this.#options));
      this.#on.hear(object);
    };
    source.onmessage = hear;
    for (const name of ["welcome", "subscribed", "upstream", "bye", ...PRESENCE]) source.addEventListener(name, hear);
    source.onerror = (event) => {
      if (event.data !== undefined) return hear(event); // the gateway's `error`, which has the name of the browser's own
      this.close();
      this.#on.lost(this.#again);
    };
  }
}
