// What the page knows: devices and their values, made from messages. No document here.

const COLOURS = [
  "#2f7ed8", "#d9622b", "#2e9d63", "#9457c9", "#c43a6b", "#1aa0a8",
  "#b08a1e", "#5b6ee1", "#7d8b2c", "#e0569a", "#8a6d5b", "#4c93b0",
];
const SPARK_POINTS = 90;

/** Everything that is known of the devices; `changed` collects those that have news since the last look. */
export class Model {
  devices = new Map(); // "site/name" → device
  alarms = new Map(); // "site/name" → {level, text}
  changed = new Set();

  /** Takes one message of a room `sites/{site}/{device}/{metric}` or `alarms/{site}`. */
  take(message) {
    if (message.room.startsWith("alarms/")) return this.#takeAlarm(message);
    const [, site, name, metric] = message.room.split("/");
    if (metric === undefined || metric === "commands") return;
    const device = this.#device(site, name);
    if (metric === "status") device.status = text(message.data);
    else if (metric === "switch") device.on = message.data?.on === true;
    else if (typeof message.data?.value === "number") device.take(metric, message.data.value, text(message.data.unit));
    else return;
    this.changed.add(device);
  }

  #takeAlarm(message) {
    const [, site, name] = (message.topic ?? "").split("/");
    if (name === undefined) return;
    const device = this.#device(site, name);
    const active = message.data?.active === true;
    device.alarm = active ? { level: message.data.level === "critical" ? "critical" : "warning", text: text(message.data.text) } : null;
    if (active) this.alarms.set(device.key, device.alarm);
    else this.alarms.delete(device.key);
    this.changed.add(device);
  }

  /** Forgets those of `alarms`, a copy of an earlier time, that nobody has told again since. */
  forgetAlarms(alarms) {
    for (const [key, alarm] of alarms) {
      if (this.alarms.get(key) !== alarm) continue;
      const device = this.devices.get(key);
      device.alarm = null;
      this.alarms.delete(key);
      this.changed.add(device);
    }
  }

  #device(site, name) {
    const key = `${site}/${name}`;
    let device = this.devices.get(key);
    if (!device) {
      device = new Device(key, site, name, COLOURS[this.devices.size % COLOURS.length]);
      this.devices.set(key, device);
    }
    return device;
  }
}

/** What a device says as text. An object isn't, and can't always be made into it: `{"toString": 1}`. */
function text(said) {
  return said === null || typeof said === "object" ? "" : String(said ?? "");
}

class Device {
  status = null;
  on = null; // null: it has no switch
  alarm = null;
  metrics = new Map(); // name → {value, unit, recent}

  constructor(key, site, name, colour) {
    Object.assign(this, { key, site, name, colour });
  }

  take(metric, value, unit) {
    let known = this.metrics.get(metric);
    if (!known) {
      known = { value, unit, recent: [] };
      this.metrics.set(metric, known);
    }
    known.value = value;
    known.recent.push(value);
    if (known.recent.length > SPARK_POINTS) known.recent.shift();
  }
}
