// The dashboard's client, from the gateway itself.
const { connect } = await import("/tidegate.js");
let gate;

window.commands = {
  connect({ url, token }) {
    gate = connect({ url: `${url}/`, token, transport: "websocket" });
    gate.addEventListener("error", ({ detail }) => say({ event: "error", code: detail.code }));
    return new Promise((resolve, reject) => {
      gate.addEventListener("state", ({ detail }) => detail === "open" && resolve());
      gate.addEventListener("error", ({ detail }) => reject(new Error(`${detail.code}: ${detail.message}`)));
    });
  },
  subscribe({ room }) {
    return new Promise((resolve, reject) => {
      gate.addEventListener("error", ({ detail }) => reject(new Error(`${detail.code}: ${detail.message}`)));
      gate.subscribe(room, (message, { last }) => say({ event: "message", ...message, last }));
      const rest = (error) => (error.code === "no_presence" ? resolve() : reject(new Error(`${error.code}: ${error.message}`)));
      gate.presence(room).then(resolve, rest); // answered after `subscribed`, since answers come in order
    });
  },
  publish: ({ room, data }) =>
    new Promise((resolve, reject) => {
      const refuse = (error) => reject(new Error(`${error.code}: ${error.message}`));
      gate.addEventListener("error", ({ detail }) => refuse(detail)); // a flood's messages aren't read: nobody knows their id
      gate.publish(room, data).then(resolve, refuse);
    }),
  disconnect: () => gate.close(),
};
