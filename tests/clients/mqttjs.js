// mqtt.js against the gateway: `node mqttjs.js`. Rooms are topics here: those of devices, or the names of rooms.
// Commands may say `as` which of several clients they are meant, and events say it then.
import mqtt from "mqtt";
import { say, serve } from "./lines.js";

const clients = new Map();

/** What an error says, with the gateway's own code where MQTT 5 tells it in the Reason String. */
function described(error, packet = error.packet) {
  const reason = packet?.properties?.reasonString;
  return new Error(reason ? `${reason} (${error.message})` : error.message);
}

/** The JSON value that a payload is, or its text. */
function valueOf(payload) {
  const text = payload.toString();
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const payloadOf = (data) => (typeof data === "string" ? data : JSON.stringify(data));

function listen(client, as) {
  const tell = (event) => say(as === undefined ? event : { ...event, as });
  client.on("message", (topic, payload, packet) => {
    const properties = packet.properties?.userProperties ?? {};
    const about = { retained: packet.retain, qos: packet.qos, duplicate: packet.dup };
    tell({ event: "message", room: topic, data: valueOf(payload), cursor: properties.cursor ?? null, ...about });
  });
  client.on("disconnect", (packet) => tell({ event: "error", code: packet.properties?.reasonString ?? packet.reasonCode }));
  client.on("error", (error) => tell({ event: "error", code: error.message }));
  client.on("close", () => tell({ event: "closed", reason: "" }));
}

serve({
  connect({ as, url, token, protocolVersion = 5, clientId = `mqttjs-${process.pid}-${as ?? 0}`, clean = true, expiry, keepalive = 60, will, reconnect = 0 }) {
    const credentials = token ? { username: "token", password: token } : {};
    const properties = protocolVersion === 5 && expiry ? { properties: { sessionExpiryInterval: expiry } } : {};
    const client = mqtt.connect(`${url.replace(/^http/, "ws").replace(/\/mqtt$/, "")}/mqtt`, {
      protocolVersion,
      clientId,
      clean,
      keepalive,
      will,
      reconnectPeriod: reconnect,
      resubscribe: false,
      ...credentials,
      ...properties,
    });
    clients.set(as, client);
    listen(client, as);
    return new Promise((resolve, reject) => {
      client.once("connect", (packet) => resolve({ sessionPresent: packet.sessionPresent, ...packet.properties }));
      client.once("error", (error) => reject(new Error(`${error.message} (${error.code})`)));
      client.once("close", () => reject(new Error("closed before CONNACK")));
    });
  },
  subscribe({ as, room, since, qos = 1, rh = 0, nl = false }) {
    const properties = since ? { properties: { userProperties: { since } } } : {};
    return new Promise((resolve, reject) => {
      clients.get(as).subscribe(room, { qos, rh, nl, ...properties }, (error, granted, packet) => {
        if (error) reject(described(error, packet ?? error.packet));
        else resolve(granted?.map(({ qos }) => qos));
      });
    });
  },
  unsubscribe: ({ as, room }) => clients.get(as).unsubscribeAsync(room).then(() => null),
  publish({ as, room, data, qos = 1, retain = false }) {
    return new Promise((resolve, reject) => {
      clients.get(as).publish(room, payloadOf(data), { qos, retain }, (error, packet) => {
        if (error) reject(described(error, packet));
        else resolve(null);
      });
    });
  },
  /** Publish many at once; how many were acknowledged, and with which errors the others failed. */
  async flood({ as, room, count, qos = 1 }) {
    const client = clients.get(as);
    const lost = new Promise((resolve) => client.once("close", () => resolve(new Error("closed"))));
    const one = (data) => new Promise((resolve) => client.publish(room, `${data}`, { qos }, resolve));
    const publish = (data) => Promise.race([one(data), lost]);
    const errors = await Promise.all(Array.from({ length: count }, (_, number) => publish(number)));
    return { done: errors.filter((error) => !error).length, errors: errors.filter(Boolean).map(String) };
  },
  disconnect: ({ as }) => clients.get(as).endAsync().then(() => null),
  /** Lose the connection without a word. */
  async drop({ as }) {
    const client = clients.get(as);
    const closed = new Promise((resolve) => client.once("close", resolve));
    client.stream.destroy();
    await closed;
  },
});
