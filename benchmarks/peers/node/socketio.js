// A gateway as one writes it with Socket.IO: MQTT in, rooms out, and back. node socketio.js PORT BROKER_PORT
import { createServer } from "node:http";
import mqtt from "mqtt";
import { Server } from "socket.io";

const [port, brokerPort] = process.argv.slice(2).map(Number);
const web = createServer();
const io = new Server(web, { perMessageDeflate: false, transports: ["websocket"] });
const client = mqtt.connect(`mqtt://127.0.0.1:${brokerPort}`);

io.on("connection", socket => {
  socket.on("subscribe", rooms => {
    socket.join(rooms);
    socket.emit("subscribed");
  });
  socket.on("publish", (topic, id, data, acknowledge) =>
    client.publish(topic, JSON.stringify(data), { qos: 1 }, () => acknowledge(id)));
});
web.listen(port, "127.0.0.1", 2048);

client.on("connect", () => client.subscribe("sensors/#", { qos: 1 }, () => console.log("ready")));
client.on("message", (topic, payload) => io.to(topic).emit("message", { room: topic, data: JSON.parse(payload) }));
