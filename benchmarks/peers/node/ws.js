// A gateway as one writes it with ws: MQTT in, WebSocket out, and back. node ws.js PORT BROKER_PORT
import mqtt from "mqtt";
import { WebSocketServer } from "ws";

const [port, brokerPort] = process.argv.slice(2).map(Number);
const rooms = new Map();
const server = new WebSocketServer({ port, host: "127.0.0.1", perMessageDeflate: false, backlog: 2048 });
const client = mqtt.connect(`mqtt://127.0.0.1:${brokerPort}`);

server.on("connection", socket => {
  const mine = [];
  socket.on("message", text => {
    const said = JSON.parse(text);
    if (said.publish) {
      const done = () => socket.send(JSON.stringify({ type: "ack", id: said.id }));
      client.publish(said.publish, JSON.stringify(said.data), { qos: 1 }, done);
      return;
    }
    for (const room of said.rooms) {
      if (!rooms.has(room)) rooms.set(room, new Set());
      rooms.get(room).add(socket);
      mine.push(room);
    }
    socket.send('{"type":"subscribed"}');
  });
  socket.on("close", () => mine.forEach(room => rooms.get(room).delete(socket)));
});

client.on("connect", () => client.subscribe("sensors/#", { qos: 1 }, () => console.log("ready")));
client.on("message", (topic, payload) => {
  const text = `{"type":"message","room":${JSON.stringify(topic)},"data":${payload}}`;
  for (const socket of rooms.get(topic) ?? []) socket.send(text);
});
