// Paho in the browser: MQTT 3.1.1 over WebSocket, in a persistent session. Rooms are topics here.
let client;
const waiting = new Map();

window.commands = {
  connect({ url, token }) {
    const { hostname, port } = new URL(url);
    client = new Paho.Client(hostname, Number(port), "/mqtt", `paho-${crypto.randomUUID()}`);
    client.onMessageArrived = ({ destinationName, payloadString, retained, duplicate }) =>
      say({ event: "message", room: destinationName, data: JSON.parse(payloadString), last: retained, duplicate });
    client.onMessageDelivered = (message) => waiting.get(message)?.resolve();
    client.onConnectionLost = ({ errorCode, errorMessage }) => {
      say({ event: "closed", reason: errorMessage });
      for (const { reject } of waiting.values()) reject(new Error(`closed: ${errorMessage}`));
      if (errorCode) say({ event: "error", code: "closed" });
    };
    return new Promise((resolve, reject) =>
      client.connect({
        userName: "token", password: token, cleanSession: false, reconnect: true, mqttVersion: 4, keepAliveInterval: 30, timeout: 1,
        onSuccess: resolve, onFailure: ({ errorMessage }) => reject(new Error(errorMessage)),
      }),
    );
  },
  subscribe: ({ room }) =>
    new Promise((resolve, reject) =>
      client.subscribe(room, { qos: 1, onSuccess: resolve, onFailure: ({ errorCode }) => reject(new Error(`forbidden: ${errorCode[0]}`)) }),
    ),
  publish: ({ room, data }) =>
    new Promise((resolve, reject) => {
      const message = new Paho.Message(JSON.stringify(data));
      Object.assign(message, { destinationName: room, qos: 1 });
      waiting.set(message, { resolve, reject });
      client.send(message);
    }),
  flood({ room, count }) {
    for (let number = 0; number < count; number += 1) client.send(room, `${number}`, 1);
  },
  disconnect: () => client.disconnect(),
};
