// The gateway's own client, in node: with a WebSocket and an EventSource from npm.
import { EventSource } from "eventsource";
import { WebSocket } from "ws";
import { connect } from "../../clients/js/tidegate.js";
import { say, serve } from "./lines.js";

const gates = new Map(); // who → client

serve({
  connect({ who, url, transport }) {
    const gate = connect({ url, transport, WebSocket, EventSource });
    gates.set(who, gate);
    gate.addEventListener("state", ({ detail }) => say({ event: "state", who, state: detail }));
    gate.addEventListener("gap", ({ detail }) => say({ event: "gap", who, ...detail }));
  },
  subscribe({ who, room }) {
    gates.get(who).subscribe(room, ({ data }) => say({ event: "message", who, data }));
  },
});
