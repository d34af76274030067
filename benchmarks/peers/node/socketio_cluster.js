// A node of several joined by Socket.IO's Redis adapter. node socketio_cluster.js PORT REDIS_PORT BROKER_PORT
// Without Redis (0) it is alone; without a broker (0) it gets messages of its clients and of the other nodes only.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import mqtt from "mqtt";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, redisPort, brokerPort] = process.argv.slice(2).map(Number);
const web = createServer();
const io = new Server(web, { perMessageDeflate: false, transports: ["websocket"] });
const tell = (room, data) => io.to(room).emit("message", { room, data });

io.on("connection", socket => {
  socket.on("subscribe", rooms => {
    socket.join(rooms);
    socket.emit("subscribed");
  });
  socket.on("publish", tell);
});
if (redisPort) {
  const publisher = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}
if (brokerPort) {
  const client = mqtt.connect(`mqtt://127.0.0.1:${brokerPort}`);
  client.on("message", (topic, payload) => tell(topic, JSON.parse(payload)));
  await new Promise(done => client.on("connect", () => client.subscribe("sensors/#", { qos: 1 }, done)));
}
web.listen(port, "127.0.0.1", 2048, () => console.log("ready"));
