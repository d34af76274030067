// The dashboard: subscribes to all sites and alarms, and shows what comes.

import { connect } from "./tidegate.js";
import { Charts } from "./charts.js";
import { Login } from "./login.js";
import { Model } from "./model.js";
import { Tiles, element } from "./tiles.js";

const COMMANDS = (device) => `sites/${device.site}/${device.name}/commands`;
const RETELL_MILLISECONDS = 2000;
const ASK_MILLISECONDS = 1000;
const STATES = {
  connecting: "connecting…",
  open: "live",
  away: "broker away",
  reconnecting: "reconnecting…",
  closed: "disconnected",
  locked: "not logged in",
};

const away = new Set(); // the brokers that the gateway can't reach
const find = (selector) => document.querySelector(selector);
const transport = new URLSearchParams(location.search).get("transport") === "sse" ? "sse" : "websocket";
const model = new Model();
const tiles = new Tiles(find(".sites"), (device, on) => gate.publish(COMMANDS(device), { switch: on }), tell);
const charts = new Charts(find(".charts"), model, isLive);

const login = new Login(find(".login"), find(".who"), { enter, leave });

let gate = null; // until it is known whether somebody has to log in first
let received = 0;
let drawing = false;
let sweep = null;
let asking = null;

/** Connects, unless that has been done. */
function enter() {
  document.body.classList.remove("locked");
  if (gate) return;
  gate = connect({ transport, csrf: () => login.csrf });
  for (const room of ["sites/#", "alarms/#"]) {
    gate.subscribe(room, (message, { last }) => {
      if (!last) received += 1;
      model.take(message);
      drawSoon();
    });
  }
  gate.addEventListener("state", showState);
  gate.addEventListener("state", forgetOldAlarms);
  gate.addEventListener("state", ({ target }) => target === gate && askWhileAway());
  gate.addEventListener("upstream", ({ detail: { name, state } }) => {
    if (state === "down") away.add(name);
    else away.delete(name);
    showState();
  });
  gate.addEventListener("error", (event) => console.warn("the gateway refused:", event.detail.code, event.detail.message));
  showState();
}

/** Asks who this is until the gateway is back: the one that leaves still knows, the one that comes may not. */
function askWhileAway() {
  clearTimeout(asking);
  if (gate?.state !== "reconnecting" && gate?.state !== "closed") return;
  login.ask();
  if (gate?.state === "reconnecting") asking = setTimeout(askWhileAway, ASK_MILLISECONDS);
}

/** Disconnects, and shows nothing until somebody has logged in. */
function leave() {
  document.body.classList.add("locked");
  const left = gate;
  gate = null;
  left?.close();
  showState();
}

function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function tell(text) {
  find(".told").textContent = text;
}

function draw() {
  drawing = false;
  for (const device of model.changed) tiles.show(device);
  model.changed.clear();
  find("[data-fact=devices]").textContent = String(model.devices.size);
  showAlarms();
}

function showAlarms() {
  const place = find(".alarms");
  const shown = [...model.alarms].map(([key, { level, text }]) => `${key} ${level} ${text}`).join("\n");
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  place.hidden = model.alarms.size === 0;
  place.replaceChildren(
    ...[...model.alarms].map(([key, { level, text }]) => {
      const alarm = element("p", "alarm");
      Object.assign(alarm.dataset, { testid: "alarm", level });
      alarm.append(element("strong", "", key.replace("/", " · ")), element("span", "", text));
      return alarm;
    }),
  );
}

/** Whether what devices say gets here. */
function isLive() {
  return gate?.state === "open" && away.size === 0;
}

function stateNow() {
  if (login.locked) return "locked";
  if (!gate) return "connecting";
  return gate.state === "open" && !isLive() ? "away" : gate.state;
}

function showState() {
  const place = find("[data-testid=connection]");
  const state = stateNow();
  place.dataset.state = state;
  place.textContent = STATES[state];
  place.title = state === "away" ? `the gateway can't reach ${[...away].join(", ")}` : "";
  document.body.classList.toggle("stale", !isLive());
}

/** An alarm that ended while the page was away isn't told; those that last are, on every subscription. */
function forgetOldAlarms() {
  clearTimeout(sweep);
  if (gate?.state !== "open") return;
  const known = new Map(model.alarms);
  sweep = setTimeout(() => {
    model.forgetAlarms(known);
    drawSoon();
  }, RETELL_MILLISECONDS);
}

find("[data-fact=transport]").textContent = transport === "sse" ? "SSE" : "WebSocket";
setInterval(() => {
  find("[data-testid=rate]").textContent = String(received);
  received = 0;
}, 1000);
showState();
charts.start();
login.ask();
