// One tile for each device. All text from the wire is put in as text, never as markup.

const CONFIRM_SECONDS = 5;
const ORDER = ["temperature", "humidity", "vibration", "power"];

/** Makes an element with a class and, if given, text. */
export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The tiles, in a grid for each site. */
export class Tiles {
  #place;
  #toggle;
  #tell;
  #grids = new Map();
  #tiles = new Map();

  /** `toggle(device, on)` sends the command; its promise says whether it was taken. `tell(text)` reads a problem out. */
  constructor(place, toggle, tell) {
    this.#place = place;
    this.#toggle = toggle;
    this.#tell = tell;
  }

  show(device) {
    let tile = this.#tiles.get(device);
    if (!tile) {
      this.#place.querySelector(":scope > .empty")?.remove();
      tile = new Tile(device, this.#toggle, this.#tell);
      this.#tiles.set(device, tile);
      insertSorted(this.#grid(device.site), tile.root, device.name);
    }
    tile.show();
  }

  #grid(site) {
    let grid = this.#grids.get(site);
    if (!grid) {
      const section = element("section", "site");
      grid = element("div", "tiles");
      section.append(element("h2", "", site), grid);
      this.#grids.set(site, grid);
      insertSorted(this.#place, section, site);
    }
    return grid;
  }
}

function insertSorted(parent, child, key) {
  child.dataset.key = key;
  const next = [...parent.children].find((other) => (other.dataset.key ?? "") > key);
  parent.insertBefore(child, next ?? null);
}

class Tile {
  #device;
  #toggle;
  #tell;
  #status = element("span", "status");
  #values = element("dl");
  #shown = new Map();
  #spark = element("canvas");
  #switch = null;
  #wanted = null;
  #timer = null;

  constructor(device, toggle, tell) {
    this.#device = device;
    this.#toggle = toggle;
    this.#tell = tell;
    this.root = element("article", "tile");
    Object.assign(this.root.dataset, { testid: "tile", site: device.site, device: device.name });
    const title = element("h3");
    const swatch = element("span", "swatch");
    swatch.style.background = device.colour;
    title.append(swatch, element("span", "name", device.name), this.#status);
    this.#spark.setAttribute("aria-hidden", "true");
    this.root.append(title, this.#values, this.#spark);
  }

  show() {
    const device = this.#device;
    this.root.dataset.status = device.status ?? "";
    if (device.alarm) this.root.dataset.alarm = device.alarm.level;
    else delete this.root.dataset.alarm;
    this.#status.textContent = device.status === "offline" ? "offline" : device.alarm?.level ?? device.status ?? "";
    for (const name of [...device.metrics.keys()].sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b))) this.#showValue(name);
    this.#drawSpark();
    if (device.on !== null) this.#showSwitch();
  }

  #showValue(name) {
    const metric = this.#device.metrics.get(name);
    let value = this.#shown.get(name);
    if (!value) {
      value = document.createTextNode("");
      const term = element("dt", "", name);
      const given = element("dd");
      Object.assign(given.dataset, { testid: "value", metric: name });
      given.append(value, element("span", "unit", metric.unit));
      this.#shown.set(name, value);
      const after = [...this.#values.children].find((other) => ORDER.indexOf(other.dataset.of) > ORDER.indexOf(name));
      for (const part of [term, given]) {
        part.dataset.of = name;
        this.#values.insertBefore(part, after ?? null);
      }
    }
    value.data = readable(metric.value);
  }

  #drawSpark() {
    const first = [...this.#device.metrics.keys()].sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b))[0];
    const recent = first === undefined ? [] : this.#device.metrics.get(first).recent;
    const { clientWidth: width, clientHeight: height } = this.#spark;
    if (recent.length < 2 || width === 0) return;
    const scale = devicePixelRatio;
    const [columns, rows] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.#spark.width !== columns || this.#spark.height !== rows) Object.assign(this.#spark, { width: columns, height: rows });
    const low = Math.min(...recent);
    const span = Math.max(Math.max(...recent) - low, Math.abs(low) * 0.01, 0.1);
    const pen = this.#spark.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.beginPath();
    recent.forEach((value, i) => pen.lineTo((i / (recent.length - 1)) * width, height - 3 - ((value - low) / span) * (height - 6)));
    pen.strokeStyle = this.#device.colour;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.stroke();
  }

  #showSwitch() {
    if (!this.#switch) {
      this.#switch = element("button", "switch");
      this.#switch.type = "button";
      this.#switch.setAttribute("role", "switch");
      this.#switch.setAttribute("aria-label", this.#device.name);
      this.#switch.dataset.testid = "switch";
      this.#switch.append(element("span", "track"), element("span", "says"));
      this.#switch.addEventListener("click", () => this.#flip());
      this.root.append(this.#switch);
    }
    if (this.#wanted !== null && this.#device.on === this.#wanted) this.#settle();
    if (this.#wanted === null) this.#paint(this.#device.on);
  }

  #paint(on, problem) {
    this.#switch.setAttribute("aria-checked", String(on));
    const says = this.#switch.lastElementChild;
    if (problem || !says.classList.contains("problem")) {
      says.textContent = problem ?? (this.#wanted === null ? (on ? "on" : "off") : `switching ${on ? "on" : "off"}…`);
    }
    says.classList.toggle("problem", Boolean(problem) || says.classList.contains("problem"));
  }

  /** Shown at once, and true once the device itself has said so. */
  async #flip() {
    if (this.#wanted !== null) return;
    this.#switch.lastElementChild.classList.remove("problem");
    this.#wanted = !this.#device.on;
    this.#switch.dataset.pending = "";
    this.#paint(this.#wanted);
    this.#timer = setTimeout(() => this.#giveUp("the device didn't answer"), CONFIRM_SECONDS * 1000);
    try {
      await this.#toggle(this.#device, this.#wanted);
    } catch (error) {
      this.#giveUp(error.message);
    }
  }

  #settle() {
    clearTimeout(this.#timer);
    this.#wanted = null;
    delete this.#switch.dataset.pending;
  }

  #giveUp(problem) {
    if (this.#wanted === null) return;
    this.#settle();
    this.#paint(this.#device.on, problem);
    this.#tell(`${this.#device.name}: ${problem}`);
    setTimeout(() => {
      this.#switch.lastElementChild.classList.remove("problem");
      this.#showSwitch();
    }, 4000);
  }
}

function readable(value) {
  if (Math.abs(value) >= 1e7) return value.toExponential(2);
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
