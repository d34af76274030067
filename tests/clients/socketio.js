// socket.io-client under test. `transports` as an argument: "websocket", "polling", or "polling,websocket" for an upgrade.
import { Agent } from "node:https";
import { io } from "socket.io-client";
import { say, serve } from "./lines.js";

const transports = (process.argv[2] ?? "websocket").split(",");
const sockets = {};
const OWN = ["message", "welcome", "joined", "left", "presence", "subscribed", "error", "bye", "upstream"];

// Buffers are said as {hex}, so that a test sees that they are some.
const shown = (value) => {
  if (value instanceof Uint8Array) return { hex: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(shown);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, shown(v)]));
  return value;
};
const given = (value) => {
  if (Array.isArray(value)) return value.map(given);
  if (value && typeof value === "object") return "hex" in value ? Buffer.from(value.hex, "hex") : Object.fromEntries(Object.entries(value).map(([k, v]) => [k, given(v)]));
  return value;
};

function open({ url, token, auth = {}, namespace = "/", socket: name = "a", query = {}, headers, answers, only = transports, from, cookies }) {
  const socket = io(url + namespace, {
    auth: { ...auth, ...(token === undefined ? {} : { token }) },
    transports: only,
    query,
    forceNew: true,
    reconnectionDelay: 20,
    reconnectionDelayMax: 50,
    extraHeaders: headers,
    withCredentials: cookies,
    ...(from && { agent: new Agent({ localAddress: from, keepAlive: true }) }), // an address of its own
  });
  sockets[name] = socket;
  socket.onAny((event, ...args) => {
    const acknowledge = typeof args.at(-1) === "function" ? args.pop() : undefined;
    const [first] = args;
    if (event === "message") say({ event, socket: name, ...shown(first) });
    else if (event === "error") say({ event, socket: name, ...first });
    else if (OWN.includes(event)) say({ event, socket: name, ...first });
    else say({ event: "custom", custom: event, socket: name, args: shown(args) });
    if (acknowledge && answers) acknowledge(...given(answers));
  });
  socket.on("connect", () => say({ event: "connected", socket: name, id: socket.id, recovered: socket.recovered }));
  socket.on("disconnect", (reason) => say({ event: "closed", socket: name, reason }));
  socket.io.on("reconnect_attempt", () => say({ event: "attempt", socket: name }));
  return socket;
}

const emit = async (name, ...args) => {
  const answer = await sockets[name].timeout(15000).emitWithAck(...args);
  if (answer?.error) throw new Error(`${answer.error.code}: ${answer.error.message}`);
  return shown(answer);
};

serve({
  connect: (options) =>
    new Promise((resolve, reject) => {
      const socket = open(options);
      socket.once("connect", () => {
        socket.off("connect_error"); // from now on it may try as often as it takes
        resolve(socket.id);
      });
      socket.once("connect_error", (error) => {
        socket.io.reconnection(false);
        reject(new Error(`${error.data?.code ?? ""}: ${error.message} ${error.description?.status ?? error.context?.status ?? ""}`));
      });
    }),
  subscribe: ({ room, since, socket: name = "a" }) => emit(name, "subscribe", room, since ? { since } : {}),
  unsubscribe: ({ room, socket: name = "a" }) => emit(name, "unsubscribe", room),
  publish: ({ room, data, options, socket: name = "a" }) => emit(name, "publish", room, given(data), ...(options ? [options] : [])),
  request: ({ room, data, socket: name = "a" }) => emit(name, "request", room, data),
  presence: ({ room, socket: name = "a" }) => emit(name, "presence", room),
  emit: ({ args, socket: name = "a" }) => emit(name, ...given(args)),
  // Without an acknowledgement.
  tell: ({ args, socket: name = "a", volatile }) => void (volatile ? sockets[name].volatile : sockets[name]).emit(...given(args)),
  transport: ({ socket: name = "a" }) => sockets[name].io.engine.transport.name,
  // As if the network failed: the client comes back by itself.
  cut: ({ socket: name = "a" }) => void sockets[name].io.engine.close(),
  pause: ({ socket: name = "a" }) => {
    sockets[name].io.reconnection(false);
    sockets[name].io.engine.close();
  },
  resume: ({ socket: name = "a" }) => {
    sockets[name].io.reconnection(true);
    sockets[name].io.connect();
  },
  identify: ({ token, socket: name = "a" }) => void (sockets[name].auth.token = token),
  flood: ({ number, args, socket: name = "a" }) => {
    for (let i = 0; i < number; i++) sockets[name].emit(...args, (answer) => answer.error && say({ event: "limited", socket: name, ...answer.error }));
  },
  closeAll: () => {
    for (const socket of Object.values(sockets)) socket.disconnect();
  },
  disconnect: ({ socket: name = "a" }) => void sockets[name].disconnect(),
});
