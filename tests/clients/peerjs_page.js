// Put into a page beside peerjs.min.js: `peers.open(id, options)` makes a peer that answers what it is told on a data
// channel, and notes all that happens in `peers.heard`.
window.peers = {
  heard: [],
  open(id, options) {
    const note = (what, value) => this.heard.push(`${what} ${value}`);
    const peer = id === null ? new Peer(options) : new Peer(id, options);
    this.peer = peer;
    peer.on("open", (given) => note("open", given));
    peer.on("error", (error) => note("error", `${error.type}: ${error.message}`));
    peer.on("disconnected", () => note("disconnected", ""));
    peer.on("connection", (channel) => {
      channel.on("data", (data) => {
        note(channel.peer, data);
        channel.send(`${data}, too`);
      });
    });
  },
  call(id, text) {
    const channel = this.peer.connect(id);
    this.channel = channel;
    channel.on("open", () => channel.send(text));
    channel.on("data", (data) => this.heard.push(`${id} ${data}`));
  },
};
