// The client of PeerJS: it calls others, and tells what they say on data channels.
let peer;
const channels = new Map();

const listen = (channel) =>
  channel.on("data", (data) => say({ event: "message", room: channel.peer, data }));

window.commands = {
  connect({ url, token, id, key }) {
    const { hostname, port } = new URL(url);
    peer = new Peer(id, { host: hostname, port: Number(port), path: "/peerjs", key, token, config: { iceServers: [] } });
    peer.on("connection", listen);
    peer.on("error", ({ type, message }) => say({ event: "error", code: `${type}: ${message}` }));
    return new Promise((resolve, reject) => {
      peer.on("open", resolve);
      peer.on("error", ({ type, message }) => reject(new Error(`${type}: ${message}`)));
    });
  },
  call({ id }) {
    const channel = peer.connect(id, { serialization: "json" });
    channels.set(id, channel);
    listen(channel);
    return new Promise((resolve, reject) => {
      channel.on("open", () => resolve());
      peer.on("error", ({ type, message }) => reject(new Error(`${type}: ${message}`)));
    });
  },
  /** Calls again and again, as fast as it can. */
  flood({ id, count }) {
    for (let number = 0; number < count; number += 1) peer.connect(id);
  },
  send: ({ id, data }) => channels.get(id).send(data),
  disconnect: () => peer.destroy(),
};
