import assert from "node:assert/strict";
import { test } from "node:test";
import { TidegateError, connect, matches } from "../tidegate.js";

/** Sockets that the test holds the other end of. */
class FakeSocket {
  static all = [];
  readyState = 0;
  sent = [];

  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    FakeSocket.all.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  welcome() {
    this.readyState = 1;
    this.say({ type: "welcome", session: "s", heartbeat_seconds: 25, limits: {} });
  }

  say(object) {
    this.onmessage({ data: JSON.stringify(object) });
  }

  drop(code = 1006) {
    this.readyState = 3;
    this.onclose({ code });
  }
}

/** A clock that stands still until it is moved; node's own is not in every version. */
class HandClock {
  #now = 0;
  #number = 0;
  #timers = new Map();

  install(t) {
    const real = { setTimeout, clearTimeout, setInterval, clearInterval };
    const arm = (repeat) => (callback, milliseconds) => {
      this.#number += 1;
      this.#timers.set(this.#number, { callback, at: this.#now + milliseconds, every: repeat ? milliseconds : null });
      return this.#number;
    };
    const disarm = (number) => this.#timers.delete(number);
    Object.assign(globalThis, { setTimeout: arm(false), setInterval: arm(true), clearTimeout: disarm, clearInterval: disarm });
    t.after(() => Object.assign(globalThis, real));
    return this;
  }

  tick(milliseconds) {
    const end = this.#now + milliseconds;
    for (;;) {
      const [number, next] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!next || next.at > end) break;
      this.#now = next.at;
      if (next.every === null) this.#timers.delete(number);
      else next.at += next.every;
      next.callback();
    }
    this.#now = end;
  }
}

function start(t, options = {}) {
  t.clock = new HandClock().install(t);
  FakeSocket.all = [];
  const gate = connect({ url: "http://gate.example:8080", WebSocket: FakeSocket, random: () => 1, ...options });
  t.after(() => gate.close());
  return gate;
}

const message = (room, data) => ({ type: "message", room, data, cursor: "e-1", time: 1 });

test("patterns match as the gateway's do", () => {
  for (const [pattern, room, expected] of [
    ["a/b", "a/b", true],
    ["a/+", "a/b", true],
    ["a/+", "a/b/c", false],
    ["a/#", "a/b/c", true],
    ["a/#", "a", true],
    ["#", "a/b", true],
    ["+/b", "a/c", false],
    ["a/b/c", "a/b", false],
  ]) assert.equal(matches(pattern, room), expected, `${pattern} ${room}`);
});

test("it subscribes on welcome and tells last values, then messages, to those who match", (t) => {
  const gate = start(t);
  const heard = [];
  gate.subscribe("sites/+", (m, { last }) => heard.push([m.room, m.data, last]));
  gate.subscribe("other", () => heard.push("never"));
  const [socket] = FakeSocket.all;
  assert.equal(socket.url, "ws://gate.example:8080/ws");
  assert.equal(socket.protocol, "tidegate.v1.json");
  socket.welcome();
  assert.deepEqual(socket.sent.map((s) => [s.type, s.room]), [["subscribe", ["sites/+", "other"]]]);
  socket.say({ type: "subscribed", room: "sites/+", cursor: "e-1", recovered: false, last: [message("sites/a", 1)] });
  socket.say(message("sites/b", 2));
  assert.deepEqual(heard, [["sites/a", 1, true], ["sites/b", 2, false]]);
});

test("it reconnects with growing pauses and subscribes again", (t) => {
  const gate = start(t);
  gate.subscribe("a", () => {});
  const states = [];
  gate.addEventListener("state", (event) => states.push(event.detail));
  FakeSocket.all[0].welcome();
  FakeSocket.all[0].drop();
  t.clock.tick(499);
  assert.equal(FakeSocket.all.length, 1);
  t.clock.tick(1);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.all[1].drop();
  t.clock.tick(999);
  assert.equal(FakeSocket.all.length, 2);
  t.clock.tick(1);
  FakeSocket.all[2].welcome();
  assert.deepEqual(FakeSocket.all[2].sent.map((s) => s.room), [["a"]]);
  assert.deepEqual(states, ["open", "reconnecting", "open"]);
});

test("it comes back with the newest cursor for the rooms that it knows, and without one for new rooms", (t) => {
  const gate = start(t);
  const [heard, gaps] = [[], []];
  gate.addEventListener("gap", ({ detail }) => gaps.push(detail.room));
  for (const room of ["a", "b", "c"]) gate.subscribe(room, (m) => heard.push(m.data));
  FakeSocket.all[0].welcome();
  for (const room of ["a", "b"]) FakeSocket.all[0].say({ type: "subscribed", room, cursor: "e-4", recovered: false, last: [] });
  FakeSocket.all[0].say({ ...message("a", 1), cursor: "e-5" });
  FakeSocket.all[0].drop();
  gate.subscribe("d", () => {});
  t.clock.tick(500);
  FakeSocket.all[1].welcome();
  assert.deepEqual(FakeSocket.all[1].sent, [
    { type: "subscribe", room: ["a", "b"], since: "e-5" },
    { type: "subscribe", room: ["c", "d"] },
  ]);
  FakeSocket.all[1].say({ type: "subscribed", room: "a", cursor: "e-5", recovered: true, last: [] });
  FakeSocket.all[1].say({ type: "subscribed", room: "b", cursor: "e-5", recovered: false, last: [message("b", 9)] });
  FakeSocket.all[1].say({ type: "subscribed", room: "c", cursor: "e-9", recovered: false, last: [] });
  assert.deepEqual([heard, gaps], [[1, 9], ["b"]]);
});

test("last values in several parts are told as they come, and it comes back anew if the last part didn't come", (t) => {
  const gate = start(t);
  const [heard, gaps] = [[], []];
  gate.addEventListener("gap", ({ detail }) => gaps.push(detail.room));
  gate.subscribe("a", () => {});
  gate.subscribe("#", (m, { last }) => heard.push([m.data, last]));
  const part = { type: "subscribed", room: "#", more: true, recovered: false };
  FakeSocket.all[0].welcome();
  FakeSocket.all[0].say({ type: "subscribed", room: "a", cursor: "e-4", recovered: false, last: [] });
  FakeSocket.all[0].say({ ...part, last: [message("x", 1)] });
  FakeSocket.all[0].drop();
  t.clock.tick(500);
  FakeSocket.all[1].welcome();
  assert.deepEqual(FakeSocket.all[1].sent, [
    { type: "subscribe", room: ["a"], since: "e-4" },
    { type: "subscribe", room: ["#"] },
  ]);
  FakeSocket.all[1].say({ ...part, last: [message("x", 2)] });
  FakeSocket.all[1].say({ type: "subscribed", room: "#", cursor: "e-5", recovered: false, last: [message("y", 3)] });
  assert.deepEqual([heard, gaps], [[[1, true], [2, true], [3, true]], []]);
  FakeSocket.all[1].say({ ...part, last: [message("x", 4)] });
  FakeSocket.all[1].say({ type: "subscribed", room: "#", cursor: "e-6", recovered: false, last: [] });
  assert.deepEqual([heard.at(-1), gaps], [[4, true], ["#"]]);
});

test("over SSE it comes back with the newest cursor too", (t) => {
  const gate = startStream(t);
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  FakeSource.all[0].say({ type: "welcome" });
  FakeSource.all[0].say({ type: "subscribed", room: "a", cursor: "e-4", recovered: false, last: [] });
  FakeSource.all[0].drop();
  t.clock.tick(500);
  t.clock.tick(0);
  assert.equal(FakeSource.all[1].url, "http://gate.example:8080/sse?room=a&since=e-4");
  gate.subscribe("b", () => {});
  t.clock.tick(0);
  assert.equal(FakeSource.all[2].url, "http://gate.example:8080/sse?room=a&since=e-4&room=b&since=");
});

test("who publishes as soon as the connection is open hears it, since the rooms come first", (t) => {
  const gate = start(t);
  gate.subscribe("a", () => {});
  gate.addEventListener("state", () => gate.publish("a", 1).catch(() => {}));
  FakeSocket.all[0].welcome();
  assert.deepEqual(FakeSocket.all[0].sent.map((s) => s.type), ["subscribe", "publish"]);
});

test("a sampled subscription is asked for, and kept over a reconnection with a cursor of its own", (t) => {
  const gate = start(t);
  const heard = [];
  gate.subscribe("sites/#", ({ data }) => heard.push(data), { sample: { seconds: 0.5, keep: "mean" } });
  gate.subscribe("chat", ({ data }) => heard.push(data));
  const sample = { keep: "mean", seconds: 0.5 };
  FakeSocket.all[0].welcome();
  assert.deepEqual(FakeSocket.all[0].sent, [
    { type: "subscribe", room: ["chat"] },
    { type: "subscribe", room: ["sites/#"], sample },
  ]);
  FakeSocket.all[0].say({ type: "subscribed", room: "chat", cursor: "e-4", recovered: false, last: [] });
  FakeSocket.all[0].say({ type: "subscribed", room: "sites/#", cursor: "e-4", recovered: false, last: [], sample });
  FakeSocket.all[0].say({ ...message("chat", "hi"), cursor: "e-9" });
  FakeSocket.all[0].say({ ...message("sites/a", 1), cursor: "e-7" });
  FakeSocket.all[0].drop();
  t.clock.tick(500);
  FakeSocket.all[1].welcome();
  assert.deepEqual(FakeSocket.all[1].sent, [
    { type: "subscribe", room: ["chat"], since: "e-9" },
    { type: "subscribe", room: ["sites/#"], since: "e-7", sample },
  ]);
  assert.deepEqual(heard, ["hi", 1]);
});

test("a message of overlapping patterns belongs to the finest", (t) => {
  const gate = start(t);
  gate.subscribe("#", () => {}, { sample: { seconds: 5 } });
  gate.subscribe("a/+", () => {}, { sample: { seconds: 1 } });
  gate.subscribe("a/b", () => {});
  FakeSocket.all[0].welcome();
  const samples = { "a/b": undefined, "a/+": { seconds: 1, keep: "last" }, "#": { seconds: 5, keep: "last" } };
  for (const [room, sample] of Object.entries(samples)) {
    FakeSocket.all[0].say({ type: "subscribed", room, cursor: "e-1", recovered: false, last: [], sample });
  }
  for (const [room, cursor] of [["a/b", "e-9"], ["a/c", "e-8"], ["x", "e-7"]]) {
    FakeSocket.all[0].say({ ...message(room, 1), cursor });
  }
  FakeSocket.all[0].drop();
  t.clock.tick(500);
  FakeSocket.all[1].welcome();
  assert.deepEqual(FakeSocket.all[1].sent.map(({ room, since }) => [room[0], since]), [["a/b", "e-9"], ["a/+", "e-8"], ["#", "e-7"]]);
});

test("of several subscriptions to a room the finest sampling holds, and another one when that ends", (t) => {
  const gate = start(t);
  const [socket] = FakeSocket.all;
  socket.welcome();
  gate.subscribe("a", () => {}, { sample: { seconds: 5 } });
  const fine = gate.subscribe("a", () => {}, { sample: { seconds: 1 } });
  const whole = gate.subscribe("a", () => {});
  const gaps = [];
  gate.addEventListener("gap", ({ detail }) => gaps.push(detail.room));
  whole.unsubscribe();
  fine.unsubscribe();
  socket.say({ type: "subscribed", room: "a", cursor: "e-1", recovered: false, last: [] });
  assert.deepEqual(socket.sent.map(({ room, sample }) => [room, sample?.seconds]), [["a", 5], ["a", 1], ["a", undefined], ["a", 1], ["a", 5]]);
  assert.deepEqual(gaps, []);
});

test("it asks for no more bytes a second than it wants", (t) => {
  const gate = start(t, { bytesPerSecond: 5000 });
  gate.subscribe("a", () => {});
  FakeSocket.all[0].welcome();
  assert.deepEqual(FakeSocket.all[0].sent[0], { type: "bandwidth", bytes_per_second: 5000 });
  const stream = startStream(t, { bytesPerSecond: 5000 });
  stream.subscribe("a", () => {});
  t.clock.tick(0);
  assert.equal(FakeSource.all[0].url, "http://gate.example:8080/sse?bytes_per_second=5000&room=a");
});

test("over SSE each room has its sampling in the address", (t) => {
  const gate = startStream(t);
  gate.subscribe("a", () => {}, { sample: { seconds: 0.5, keep: "max" } });
  gate.subscribe("b", () => {});
  t.clock.tick(0);
  assert.equal(
    FakeSource.all[0].url,
    "http://gate.example:8080/sse?room=b&sample=&sample_keep=&room=a&sample=0.5&sample_keep=max",
  );
});

for (const [chance, milliseconds] of [[0, 100], [1, 500]])
  test(`sent away by a gateway that leaves, it comes back after ${milliseconds} ms, with its cursor`, (t) => {
    const gate = start(t, { random: () => chance });
    gate.subscribe("a", () => {});
    FakeSocket.all[0].welcome();
    FakeSocket.all[0].say({ type: "subscribed", room: "a", cursor: "e-4", recovered: false, last: [] });
    FakeSocket.all[0].say({ ...message("a", 1), cursor: "e-5" });
    FakeSocket.all[0].say({ type: "bye", code: "shutting_down", reason: "going", retry: true });
    FakeSocket.all[0].drop(1012);
    t.clock.tick(milliseconds - 1);
    assert.deepEqual([FakeSocket.all.length, gate.state], [1, "reconnecting"]);
    t.clock.tick(1);
    FakeSocket.all[1].welcome();
    assert.deepEqual(FakeSocket.all[1].sent, [{ type: "subscribe", room: ["a"], since: "e-5" }]);
  });

test("it stays away when the gateway says so", (t) => {
  const gate = start(t);
  FakeSocket.all[0].welcome();
  FakeSocket.all[0].say({ type: "bye", code: "x", reason: "no", retry: false });
  FakeSocket.all[0].drop(4403);
  t.clock.tick(60_000);
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(gate.state, "closed");
});

test("publish resolves on ack and rejects with the gateway's error", async (t) => {
  const gate = start(t);
  await assert.rejects(gate.publish("a", 1), { code: "disconnected" });
  const [socket] = FakeSocket.all;
  socket.welcome();
  const taken = gate.publish("a", { x: 1 });
  const refused = gate.publish("b", 2);
  const [first, second] = socket.sent;
  assert.deepEqual([first.type, first.room, first.data], ["publish", "a", { x: 1 }]);
  socket.say({ type: "error", id: second.id, code: "rate_limited", message: "slower", retry_after_seconds: 2 });
  socket.say({ type: "ack", id: first.id });
  await taken;
  await assert.rejects(refused, (error) => {
    assert.ok(error instanceof TidegateError);
    assert.deepEqual([error.code, error.message, error.retryAfterSeconds], ["rate_limited", "slower", 2]);
    return true;
  });
});

test("request resolves with the device's answer and rejects with the gateway's error", async (t) => {
  const gate = start(t);
  await assert.rejects(gate.request("a", 1), { code: "disconnected" });
  const [socket] = FakeSocket.all;
  socket.welcome();
  const asked = [gate.request("a", { x: 1 }, { timeoutSeconds: 3 }), gate.request("b", 2), gate.request("c", 3)];
  const [first, second, third] = socket.sent;
  assert.deepEqual(first, { type: "request", room: "a", data: { x: 1 }, timeout_seconds: 3, id: first.id });
  assert.deepEqual(second, { type: "request", room: "b", data: 2, id: second.id });
  socket.say({ type: "error", id: third.id, code: "request_timeout", message: "late" });
  socket.say({ type: "reply", id: second.id, data: "AAE=", binary: true });
  socket.say({ type: "reply", id: first.id, data: { on: true } });
  assert.deepEqual(await asked[0], { data: { on: true } });
  assert.deepEqual(await asked[1], { data: "AAE=", binary: true });
  await assert.rejects(asked[2], { code: "request_timeout" });
});

test("a request is given up only some time after the device's time is over", async (t) => {
  const gate = start(t);
  const [socket] = FakeSocket.all;
  socket.welcome();
  const long = gate.request("a", 1, { timeoutSeconds: 30 });
  const usual = gate.request("b", 1);
  t.clock.tick(19_999);
  socket.say({ type: "reply", id: socket.sent[1].id, data: 1 });
  assert.deepEqual(await usual, { data: 1 });
  t.clock.tick(20_001);
  await assert.rejects(long, { code: "timeout" });
});

test("after the end nothing is asked", async (t) => {
  const gate = start(t);
  gate.close();
  await assert.rejects(gate.request("a", 1), { code: "closed" });
});

test("publish takes a key, by which the same may be sent again", async (t) => {
  const gate = start(t);
  const [socket] = FakeSocket.all;
  socket.welcome();
  for (const key of ["k-1", undefined]) {
    const taken = gate.publish("a", 1, { key });
    assert.equal(socket.sent.at(-1).key, key);
    socket.say({ type: "ack", id: socket.sent.at(-1).id });
    await taken;
  }
});

test("it tells which of the gateway's brokers are away and back, once each", (t) => {
  const gate = start(t);
  const told = [];
  gate.addEventListener("upstream", ({ detail }) => told.push(`${detail.name} ${detail.state}`));
  FakeSocket.all[0].welcome();
  for (const state of ["up", "down", "down", "up"]) FakeSocket.all[0].say({ type: "upstream", name: "plant", state });
  assert.deepEqual(told, ["plant down", "plant up"]);
});

test("what came back while it was disconnected is told after the next welcome", (t) => {
  const gate = start(t);
  const told = [];
  gate.addEventListener("upstream", ({ detail }) => told.push(`${detail.name} ${detail.state}`));
  FakeSocket.all[0].welcome();
  for (const name of ["north", "south"]) FakeSocket.all[0].say({ type: "upstream", name, state: "down" });
  FakeSocket.all[0].drop();
  t.clock.tick(500);
  FakeSocket.all[1].welcome();
  FakeSocket.all[1].say({ type: "upstream", name: "south", state: "down" });
  assert.deepEqual(told, ["north down", "south down", "north up", "south up", "south down"]);
});

test("what is unanswered when the connection is lost is rejected", async (t) => {
  const gate = start(t);
  FakeSocket.all[0].welcome();
  const lost = gate.publish("a", 1);
  FakeSocket.all[0].drop();
  await assert.rejects(lost, { code: "disconnected" });
});

test("a connection on which nothing comes is asked, and given up if it doesn't answer", async (t) => {
  const gate = start(t);
  const [socket] = FakeSocket.all;
  socket.welcome();
  t.clock.tick(25_000);
  t.clock.tick(25_000);
  assert.equal(socket.sent.at(-1).type, "ping");
  t.clock.tick(10_000);
  await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(gate.state, "reconnecting");
});

test("the last callback of a room to leave unsubscribes", (t) => {
  const gate = start(t);
  const one = gate.subscribe("a", () => {});
  const two = gate.subscribe("a", () => {});
  const [socket] = FakeSocket.all;
  socket.welcome();
  one.unsubscribe();
  one.unsubscribe();
  assert.equal(socket.sent.length, 1);
  two.unsubscribe();
  assert.deepEqual(socket.sent[1], { type: "unsubscribe", room: "a" });
});

test("a handshake that nobody answers is given up and tried again", (t) => {
  const gate = start(t);
  t.clock.tick(9_999);
  assert.equal(gate.state, "connecting");
  t.clock.tick(1);
  assert.equal(gate.state, "reconnecting");
  assert.equal(FakeSocket.all[0].readyState, 3);
  t.clock.tick(500);
  FakeSocket.all[1].welcome();
  t.clock.tick(10_000);
  assert.equal(gate.state, "open");
});

test("back online, it doesn't trust a connection that seems open, nor wait to reconnect", async (t) => {
  const machine = new EventTarget();
  for (const name of ["addEventListener", "removeEventListener"]) {
    globalThis[name] = machine[name].bind(machine);
    t.after(() => delete globalThis[name]);
  }
  const gate = start(t);
  const [socket] = FakeSocket.all;
  socket.welcome();
  machine.dispatchEvent(new Event("online"));
  assert.equal(socket.sent.at(-1)?.type, "ping");
  t.clock.tick(10_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(gate.state, "reconnecting");
  assert.equal(FakeSocket.all.length, 1);
  machine.dispatchEvent(new Event("online"));
  assert.equal(FakeSocket.all.length, 2);
});

test("a callback that throws is reported, and keeps nothing from the others", (t) => {
  const reported = [];
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = (report) => reported.push(report);
  t.after(() => Object.assign(globalThis, { queueMicrotask }));
  const gate = start(t);
  const heard = [];
  gate.subscribe("#", ({ data }) => {
    if (data === 1) throw new Error("the page's own fault");
    heard.push(data);
  });
  gate.subscribe("#", ({ data }) => heard.push(`also ${data}`));
  const [socket] = FakeSocket.all;
  socket.welcome();
  socket.say({ type: "subscribed", room: "#", cursor: "e-1", recovered: false, last: [message("a", 1), message("b", 2)] });
  assert.deepEqual(heard, ["also 1", 2, "also 2"]);
  assert.equal(reported.length, 1);
  assert.throws(reported[0], { message: "the page's own fault" });
});

/** Streams that the test holds the other end of; like a browser's, it gives errors of both kinds to `onerror`. */
class FakeSource {
  static all = [];
  listeners = new Map();
  isClosed = false;

  constructor(url) {
    this.url = url;
    FakeSource.all.push(this);
  }

  addEventListener(name, listener) {
    this.listeners.set(name, listener);
  }

  close() {
    this.isClosed = true;
  }

  say(object) {
    const event = { type: object.type, data: JSON.stringify(object) };
    if (object.type === "error") this.onerror(event);
    else this.listeners.get(object.type)?.(event);
  }

  drop() {
    this.onerror({ type: "error" });
  }
}

function startStream(t, options = {}) {
  FakeSource.all = [];
  return start(t, { transport: "sse", EventSource: FakeSource, ...options });
}

test("over SSE an error that the gateway tells of is no lost connection", (t) => {
  const gate = startStream(t);
  const told = [];
  gate.addEventListener("error", ({ detail }) => told.push(detail.code));
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  const [source] = FakeSource.all;
  source.say({ type: "welcome" });
  source.say({ type: "error", code: "too_many_subscriptions", message: "no more" });
  assert.deepEqual(told, ["too_many_subscriptions"]);
  assert.deepEqual([gate.state, source.isClosed], ["open", false]);
});

test("over SSE it tells of brokers too, and sends a key as a header", async (t) => {
  const requests = [];
  const fetch = async (url, request) => {
    requests.push(request.headers["idempotency-key"]);
    return { ok: true, json: async () => ({ type: "ack" }) };
  };
  const gate = startStream(t, { fetch });
  const told = [];
  gate.addEventListener("upstream", ({ detail }) => told.push(detail));
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  FakeSource.all[0].say({ type: "welcome" });
  FakeSource.all[0].say({ type: "upstream", name: "plant", state: "down" });
  assert.deepEqual(told, [{ name: "plant", state: "down" }]);
  await gate.publish("a", 1, { key: "k-1" });
  await gate.publish("a", 1);
  assert.deepEqual(requests, ["k-1", undefined]);
});

test("over SSE too it comes back to a gateway that leaves, not all at the same moment", (t) => {
  const gate = startStream(t, { random: () => 0 });
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  const [source] = FakeSource.all;
  source.say({ type: "welcome" });
  source.say({ type: "subscribed", room: "a", cursor: "e-4", recovered: false, last: [] });
  source.say({ type: "bye", code: "shutting_down", reason: "going", retry: true });
  source.drop();
  assert.equal(source.isClosed, true); // the browser's own would come back by itself, without jitter
  t.clock.tick(99);
  assert.equal(FakeSource.all.length, 1);
  t.clock.tick(1);
  t.clock.tick(0);
  assert.match(FakeSource.all[1].url, /since=e-4/);
  assert.equal(gate.state, "reconnecting");
});

test("over SSE too it stays away when the gateway says so", (t) => {
  const gate = startStream(t);
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  const [source] = FakeSource.all;
  source.say({ type: "welcome" });
  source.say({ type: "bye", code: "x", reason: "no", retry: false });
  source.drop();
  t.clock.tick(60_000);
  assert.equal(gate.state, "closed");
  assert.equal(FakeSource.all.length, 1);
});

test("over SSE a loss just as the rooms change leaves no second stream behind", (t) => {
  const gate = startStream(t);
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  FakeSource.all[0].say({ type: "welcome" });
  gate.subscribe("b", () => {});
  FakeSource.all[0].drop();
  t.clock.tick(500);
  t.clock.tick(0);
  assert.deepEqual(FakeSource.all.map((source) => source.isClosed), [true, false]);
});

test("over SSE one who only publishes needs no stream", async (t) => {
  const gate = startStream(t, { fetch: async () => ({ ok: true, json: async () => ({ type: "ack" }) }) });
  t.clock.tick(0);
  assert.equal(gate.state, "open");
  await gate.publish("a", 1);
  assert.equal(FakeSource.all.length, 0);
});

test("over SSE a request goes by POST", async (t) => {
  const requests = [];
  const answers = [
    { ok: true, json: async () => ({ type: "reply", room: "a/x", data: 7 }) },
    { ok: true, json: async () => ({ type: "reply", room: "b", data: "AA==", binary: true }) },
    { ok: false, json: async () => ({ code: "request_timeout", detail: "late" }) },
  ];
  const fetch = async (url, request) => {
    requests.push([url, request.method, request.body]);
    return answers.shift();
  };
  const gate = startStream(t, { fetch });
  t.clock.tick(0);
  assert.deepEqual(await gate.request("a/x", { on: true }, { timeoutSeconds: 2.5 }), { data: 7 });
  assert.deepEqual(await gate.request("b", 1), { data: "AA==", binary: true });
  await assert.rejects(gate.request("c", 1), { code: "request_timeout", message: "late" });
  assert.deepEqual(requests, [
    ["http://gate.example:8080/request?room=a%2Fx&timeout_seconds=2.5", "POST", '{"on":true}'],
    ["http://gate.example:8080/request?room=b", "POST", "1"],
    ["http://gate.example:8080/request?room=c", "POST", "1"],
  ]);
});

test("over SSE an answer that isn't the gateway's is an error with a code", async (t) => {
  const proxy = { ok: false, status: 502, json: async () => JSON.parse("<html>") };
  const portal = { ok: true, status: 200, json: async () => JSON.parse("<html>") };
  const other = { ok: false, status: 403, json: async () => ({ message: "no" }) };
  const answers = [proxy, portal, other];
  const gate = startStream(t, { fetch: async () => answers.shift() });
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  FakeSource.all[0].say({ type: "welcome" });
  for (const status of [/502/, /200/, /403/]) {
    await assert.rejects(gate.publish("a", 1), { name: "TidegateError", code: "unexpected", message: status });
  }
});

test("a namespace has its own endpoints, whichever the transport", async (t) => {
  const url = "https://gate.example/n/factory-b/";
  const requests = [];
  const fetch = async (address) => {
    requests.push(address);
    return { ok: true, json: async () => ({ type: "ack" }) };
  };
  start(t, { url });
  assert.equal(FakeSocket.all[0].url, "wss://gate.example/n/factory-b/ws");
  const gate = startStream(t, { url, fetch });
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  assert.equal(FakeSource.all.at(-1).url, "https://gate.example/n/factory-b/sse?room=a");
  FakeSource.all.at(-1).say({ type: "welcome" });
  await gate.publish("a", 1);
  assert.deepEqual(requests, ["https://gate.example/n/factory-b/publish?room=a"]);
});

test("an address may be relative to the page", (t) => {
  globalThis.location = { href: "https://gate.example/charts/today.html" };
  t.after(() => delete globalThis.location);
  start(t, { url: "/n/factory-b/" });
  assert.equal(FakeSocket.all[0].url, "wss://gate.example/n/factory-b/ws");
});

test("over SSE it opens one stream for all rooms, and publishes by POST", async (t) => {
  const requests = [];
  const fetch = async (url, request) => {
    requests.push([url, request.method, request.body]);
    const ok = requests.length === 1;
    return { ok, json: async () => (ok ? { type: "ack" } : { code: "read_only", detail: "no" }) };
  };
  const gate = startStream(t, { fetch });
  const heard = [];
  gate.subscribe("a/#", (m) => heard.push(m.data));
  gate.subscribe("b", () => {});
  t.clock.tick(0);
  const source = FakeSource.all.at(-1);
  assert.equal(source.url, "http://gate.example:8080/sse?room=a%2F%23&room=b");
  source.say({ type: "welcome" });
  assert.equal(gate.state, "open");
  source.onmessage({ data: JSON.stringify(message("a/x", 5)) });
  assert.deepEqual(heard, [5]);
  await gate.publish("a/x", { on: true });
  assert.deepEqual(requests[0], ["http://gate.example:8080/publish?room=a%2Fx", "POST", '{"on":true}']);
  await assert.rejects(gate.publish("a/x", 1), { code: "read_only" });
  source.drop();
  assert.ok(source.isClosed);
  assert.equal(gate.state, "reconnecting");
  t.clock.tick(500);
  t.clock.tick(0);
  assert.equal(FakeSource.all.length, 2);
});

test("it says its key on connecting, tells who joins and leaves, and answers who is there", async (t) => {
  const gate = start(t, { member: "my key" });
  const told = [];
  for (const type of ["joined", "left", "presence"]) {
    gate.addEventListener(type, ({ detail }) => told.push([type, detail.room, detail.who ?? detail.count]));
  }
  const [socket] = FakeSocket.all;
  assert.equal(socket.url, "ws://gate.example:8080/ws?member=my+key");
  socket.welcome();
  socket.say({ type: "joined", room: "hall", who: { member: "a" } });
  socket.say({ type: "left", room: "hall", who: { member: "a" } });
  socket.say({ type: "presence", room: "hall", count: 200 });
  assert.deepEqual(told, [["joined", "hall", { member: "a" }], ["left", "hall", { member: "a" }], ["presence", "hall", 200]]);
  const asked = gate.presence("hall");
  assert.deepEqual(socket.sent.at(-1), { type: "presence", room: "hall", id: 1 });
  socket.say({ type: "reply", id: 1, data: { count: 1, members: [{ device: "fan" }] } });
  assert.deepEqual(await asked, { count: 1, members: [{ device: "fan" }] });
});

test("what a page says as soon as the gate is open comes after its subscriptions", (t) => {
  const gate = start(t);
  gate.subscribe("hall", () => {});
  gate.addEventListener("state", ({ detail }) => detail === "open" && gate.setPresence("hall", 1).catch(() => {}));
  FakeSocket.all[0].welcome();
  assert.deepEqual(FakeSocket.all[0].sent.map((s) => s.type), ["subscribe", "presence"]);
});

test("over SSE it hears who joins, asks by GET, and can't set a state", async (t) => {
  const asked = [];
  const fetch = async (url, { method }) => {
    asked.push([method, url]);
    return { ok: true, status: 200, json: async () => ({ room: "a", count: 1, members: [{ user: "ann" }] }) };
  };
  const gate = startStream(t, { member: "k", fetch });
  const told = [];
  gate.addEventListener("joined", ({ detail }) => told.push(detail.who));
  gate.subscribe("a", () => {});
  t.clock.tick(0);
  const [source] = FakeSource.all;
  assert.equal(source.url, "http://gate.example:8080/sse?member=k&room=a");
  source.say({ type: "welcome" });
  source.say({ type: "joined", room: "a", who: { user: "ann" } });
  assert.deepEqual(told, [{ user: "ann" }]);
  assert.deepEqual(await gate.presence("a"), { count: 1, members: [{ user: "ann" }] });
  assert.deepEqual(asked, [["GET", "http://gate.example:8080/presence?room=a"]]);
  await assert.rejects(gate.setPresence("a", 1), { code: "unsupported" });
});

test("a state that was set is set again after a reconnection, until the room is left", async (t) => {
  const gate = start(t);
  const { unsubscribe } = gate.subscribe("hall", () => {});
  await assert.rejects(gate.setPresence("hall", 1), { code: "disconnected" });
  FakeSocket.all[0].welcome();
  const [set, refused] = [gate.setPresence("hall", { at: 1 }), gate.setPresence("elsewhere", 2)];
  assert.deepEqual(FakeSocket.all[0].sent.at(-2), { type: "presence", room: "hall", state: { at: 1 }, id: 1 });
  FakeSocket.all[0].say({ type: "reply", id: 1, data: { count: 1, members: [] } });
  FakeSocket.all[0].say({ type: "error", id: 2, code: "no_presence", message: "no" });
  await set;
  await assert.rejects(refused, { code: "no_presence" });
  FakeSocket.all[0].drop();
  t.clock.tick(500);
  FakeSocket.all[1].welcome();
  assert.deepEqual(FakeSocket.all[1].sent, [
    { type: "subscribe", room: ["hall"] },
    { type: "presence", room: "hall", state: { at: 1 } },
  ]);
  unsubscribe();
  FakeSocket.all[1].drop();
  t.clock.tick(500);
  FakeSocket.all[2].welcome();
  assert.deepEqual(FakeSocket.all[2].sent, []);
});

/** A gateway's `/ticket`, and what was asked of it. */
function ticketOffice(answer = () => ({ ok: true, json: async () => ({ ticket: "t1", expires_in_seconds: 30 }) })) {
  const asked = [];
  const fetch = async (url, { headers }) => {
    asked.push([new URL(url).pathname, headers.authorization]);
    return answer();
  };
  return { asked, fetch };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a token is shown for a ticket, and only the ticket stands in an address", async () => {
  FakeSocket.all = [];
  const office = ticketOffice();
  const options = { url: "http://gateway/n/b/", WebSocket: FakeSocket, fetch: office.fetch, token: async () => "secret" };
  const gate = connect(options);
  await settled();
  assert.deepEqual(office.asked, [["/n/b/ticket", "Bearer secret"]]);
  assert.equal(FakeSocket.all[0].url, "ws://gateway/n/b/ws?ticket=t1");
  gate.close();
});

test("a refused token ends it, unless another one can be had", async () => {
  FakeSocket.all = [];
  const refused = () => ({ ok: false, status: 401, json: async () => ({ code: "unauthenticated", detail: "no" }) });
  for (const [token, state] of [["fixed", "closed"], [() => "new", "reconnecting"]]) {
    const gate = connect({ url: "http://gateway/", WebSocket: FakeSocket, fetch: ticketOffice(refused).fetch, token });
    const errors = [];
    gate.addEventListener("error", ({ detail }) => errors.push(detail.code));
    await settled();
    assert.deepEqual([gate.state, errors], [state, ["unauthenticated"]]);
    gate.close();
  }
  assert.equal(FakeSocket.all.length, 0);
});

test("a newer token is shown before the one that holds expires", async (t) => {
  FakeSocket.all = [];
  const clock = new HandClock().install(t);
  let number = 0;
  const token = () => `secret ${(number += 1)}`;
  const gate = connect({ url: "http://gateway/", WebSocket: FakeSocket, fetch: ticketOffice().fetch, token });
  await settled();
  const [socket] = FakeSocket.all;
  socket.readyState = 1;
  const identity = { user: "ann", roles: [], expires_at: Date.now() / 1000 + 100 };
  socket.say({ type: "welcome", session: "s", identity, heartbeat_seconds: 2500, limits: {} });
  clock.tick(81_000);
  await settled();
  const said = socket.sent.find(({ type }) => type === "auth");
  assert.equal(said.token, "secret 2");
  socket.say({ type: "ack", id: said.id, identity });
  socket.drop(4401);
  assert.equal(gate.state, "reconnecting");
  gate.close();
});

test("each stream has a ticket of its own, and what is sent by POST has the token in a header", async (t) => {
  const clock = new HandClock().install(t);
  const sources = [];
  class Source {
    constructor(url) {
      this.url = new URL(url);
      sources.push(this);
    }
    addEventListener() {}
    close() {}
  }
  const office = ticketOffice();
  const options = { url: "http://gateway/", transport: "sse", EventSource: Source, fetch: office.fetch, token: "secret" };
  const gate = connect(options);
  gate.subscribe("a", () => {});
  clock.tick(1);
  await settled();
  gate.subscribe("b", () => {});
  clock.tick(1);
  await settled();
  assert.deepEqual(sources.map(({ url }) => [url.searchParams.get("ticket"), url.searchParams.getAll("room").length]), [["t1", 1], ["t1", 2]]);
  assert.equal(office.asked.filter(([path]) => path === "/ticket").length, 2);
  sources[1].onmessage({ data: JSON.stringify({ type: "welcome" }) });
  await gate.publish("a", 1);
  assert.deepEqual(office.asked.at(-1), ["/publish", "Bearer secret"]);
  gate.close();
});

test("what is sent by POST has the token that the session cookie needs, as it is then", async (t) => {
  const clock = new HandClock().install(t);
  const asked = [];
  const fetch = async (url, { headers }) => {
    asked.push(headers);
    return { ok: true, status: 200, json: async () => ({ type: "ack" }) };
  };
  let csrf;
  const gate = connect({ url: "http://gateway/", transport: "sse", fetch, csrf: () => csrf });
  clock.tick(1);
  await gate.publish("a", 1);
  csrf = "secret";
  await gate.publish("a", 1, { key: "k" });
  assert.deepEqual(asked.map((headers) => headers["x-csrf-token"]), [undefined, "secret"]);
  assert.equal(asked[1]["idempotency-key"], "k");
  assert.equal(asked[1].authorization, undefined);
  gate.close();
});
