// The page of a game of points: games side by side that are played live or shown from a recording.

import { curvesSection } from "./curves.js";
import { choice, colour, element, field, onTheme, onWidth, shortNumber, slider } from "./draw.js";

const SPEEDS = [1, 5, 20, 60, 200];
const PAUSE = 60;
const NOTICED = 700;
const WORKING = "The server is at work. It compiles a demonstration before its first frames, which takes some seconds.";

export async function pointPage(root, backend, description, say) {
  const page = new PointPage(root, backend, description, say);
  globalThis.explore = page; // for a console, and for tests
  await page.open(0);
}

class PointPage {
  constructor(root, backend, description, say) {
    Object.assign(this, { root, backend, description, say });
    this.playing = false;
    this.frames = [];
    this.speed = 0;
    this.surface = true;
    this.field = true;
    this.build();
  }

  build() {
    const d = this.description;
    const shows = d.demos.map((demo) => demo.title);
    if (d.rounds.length) shows.push("Checkpoints of the run");
    this.text = element("p", {});
    this.play = element("button", { type: "button", onclick: () => this.toggle() }, "Play");
    this.step = element("button", { type: "button", onclick: () => this.forward() }, "Step");
    const restart = element("button", { type: "button", onclick: () => this.open(this.shown) }, "Restart");
    this.speeds = choice(SPEEDS.map((n) => (n === 1 ? "1 round" : `${n} rounds`)), (i) => { this.speed = i; });
    this.speedField = field("A frame every", this.speeds);
    this.where = slider("moment", { min: 0, max: 1, step: 1, value: 0 }, (i) => {
      this.pause();
      this.seek(i);
    });
    const show = (name, label) => {
      const box = element("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        this[name] = box.checked;
        this.draw();
      });
      return element("label", { className: "check" }, box, element("span", {}, label));
    };
    this.panels = element("div", { className: "panels" });
    this.root.replaceChildren(
      element("header", {},
        element("h1", {}, d.name),
        element("p", { className: "note" },
          d.served ? "Games are trained by this server as you watch." : "Games are shown from a recording."),
      ),
      element("section", {},
        element("div", { className: "controls" },
          field("Show", choice(shows, (i) => this.open(i))), this.play, this.step, restart, this.speedField,
        ),
        this.text,
        this.where,
        this.panels,
        element("div", { className: "controls" }, show("surface", "critic's surface"), show("field", "push on samples")),
        element("p", { className: "legend note" },
          element("span", { className: "dot real" }), "data ",
          element("span", { className: "dot fake" }), "samples ",
          element("span", { className: "swatch" }), "critic's score, low to high. ",
          "Arrows: where the generator's loss would push a sample; they are scaled so that the longest of a picture is as long as a cell."),
      ),
      d.logged ? curvesSection(this.backend, d.served) : "",
    );
    document.addEventListener("keydown", (event) => {
      const busy = ["INPUT", "SELECT", "BUTTON", "TEXTAREA"].includes(event.target.tagName);
      if (event.key === " " && !busy) {
        event.preventDefault();
        this.toggle();
      }
    });
    onTheme(() => this.draw());
    onWidth(this.panels, () => this.draw());
  }

  /** The demonstration that is shown; none where checkpoints are. */
  get demo() {
    return this.description.demos[this.shown];
  }

  /** Shows a demonstration from its beginning, or the checkpoints. */
  async open(shown) {
    this.pause();
    this.shown = shown;
    const demo = this.demo;
    const titles = demo ? demo.panels : ["the run"];
    this.text.textContent = demo ? demo.text : "What the run had learned when it saved.";
    this.canvases = titles.map(() => element("canvas", { role: "img" }));
    this.captions = titles.map(() => element("p", { className: "note" }));
    this.panels.replaceChildren(
      ...titles.map((title, i) => element("figure", {}, element("figcaption", {}, title), this.canvases[i], this.captions[i])),
    );
    this.live = this.description.served && demo !== undefined;
    // Half of a recording's step, so that games whose rounds are long are not slow to watch.
    if (demo) this.speed = SPEEDS.findLastIndex((n) => n <= Math.max(1, demo.every / 2));
    this.speeds.selectedIndex = this.speed;
    this.where.hidden = this.live;
    this.speedField.hidden = !this.live;
    try {
      if (this.live) this.frames = [await this.compiled(this.backend.start(demo.name))];
      else if (demo) this.frames = await this.backend.recording(demo.name);
      else this.frames = await this.checkpoints();
      this.where.querySelector("input").max = String(this.frames.length - 1);
      this.seek(demo ? 0 : this.frames.length - 1);
    } catch (error) {
      this.say(error.message);
    }
  }

  async checkpoints() {
    if (!this.description.served) return this.backend.recording("checkpoints");
    const { rounds } = await this.backend.now();
    return Promise.all(rounds.map((round) => this.backend.checkpoint(round)));
  }

  /** What the server answers; a line says what it does where that takes longer than a frame. */
  async compiled(answer) {
    const timer = setTimeout(() => this.say(WORKING), NOTICED);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
      this.say("");
    }
  }

  seek(i) {
    this.at = i;
    this.where.set(i);
    this.draw();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.run();
  }

  pause() {
    this.playing = false;
    this.play.textContent = "Play";
  }

  /** Plays until it is paused, or the end. */
  async run() {
    if (this.playing) return;
    this.playing = true;
    this.play.textContent = "Pause";
    if (!this.live && this.at === this.frames.length - 1) this.seek(0);
    while (this.playing && (await this.forward())) await new Promise((go) => setTimeout(go, PAUSE));
    this.pause();
  }

  /** One frame on; whether there is another after it. */
  async forward() {
    if (!this.live) {
      if (this.at < this.frames.length - 1) this.seek(this.at + 1);
      return this.at < this.frames.length - 1;
    }
    const demo = this.demo;
    try {
      const next = await this.compiled(this.backend.play(demo.name, SPEEDS[this.speed]));
      if (demo !== this.demo) return false;
      this.frames = [next];
      this.seek(0);
      return true;
    } catch (error) {
      this.say(error.message);
      return false;
    }
  }

  draw() {
    const moment = this.frames[this.at];
    if (!moment) return;
    moment.forEach((frame, i) => {
      this.drawPanel(this.canvases[i], frame);
      const caption = captionOf(frame, this.description.extent);
      this.captions[i].textContent = caption;
      this.canvases[i].setAttribute("aria-label", `${frame.points.length} samples; ${caption}`);
    });
  }

  drawPanel(canvas, frame) {
    const ratio = devicePixelRatio || 1;
    const side = canvas.clientWidth;
    if (!side) return;
    canvas.width = canvas.height = Math.round(side * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const { left, right, bottom, top } = this.description.extent;
    const x = (value) => ((value - left) / (right - left)) * side;
    const y = (value) => ((top - value) / (top - bottom)) * side;
    context.fillStyle = colour("--plot");
    context.fillRect(0, 0, side, side);
    if (this.surface && frame.surface) drawSurface(context, frame.surface, side);
    drawPoints(context, this.description.real, x, y, colour("--real"), 1.6);
    if (this.field) drawField(context, frame.field, this.description.extent, side);
    drawPoints(context, frame.points, x, y, colour("--fake"), 2.2);
  }
}

function captionOf({ round, losses, push, modes, range, points }, { left, right, bottom, top }) {
  const numbers = Object.entries(losses).map(([name, loss]) => `${name} loss ${short(loss)}`);
  if (modes) numbers.unshift(`${modes[0]} of ${modes[1]} modes`);
  const inside = points.filter(([x, y]) => x >= left && x <= right && y >= bottom && y <= top).length;
  if (inside < points.length) numbers.unshift(`${points.length - inside} of ${points.length} samples outside`);
  if (range) numbers.push(`scores ${short(range[0])} to ${short(range[1])}`);
  return [`Round ${round}`, ...numbers, `push ${short(push)}`].join(", ");
}

function short(value) {
  return typeof value === "number" ? shortNumber(value) : String(value);
}

/** The critic's score from low to high as a colour; values are of cells, the lowest row first. */
function drawSurface(context, values, side) {
  const cells = Math.round(Math.sqrt(values.length));
  const small = document.createElement("canvas");
  small.width = small.height = cells;
  const paint = small.getContext("2d");
  paint.fillStyle = colour("--surface");
  values.forEach((value, i) => {
    if (typeof value !== "number") return;
    paint.globalAlpha = value;
    paint.fillRect(i % cells, cells - 1 - Math.floor(i / cells), 1, 1);
  });
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, side, side);
}

function drawPoints(context, points, x, y, style, radius) {
  context.fillStyle = style;
  for (const point of points) {
    if (typeof point[0] !== "number" || typeof point[1] !== "number") continue;
    context.beginPath();
    context.arc(x(point[0]), y(point[1]), radius, 0, 2 * Math.PI);
    context.fill();
  }
}

/** Arrows from the centres of cells; the longest is as long as a cell. */
function drawField(context, arrows, extent, side) {
  const cells = Math.round(Math.sqrt(arrows.length));
  const size = side / cells;
  const longest = Math.max(...arrows.map(([dx, dy]) => Math.hypot(dx, dy)).filter(Number.isFinite));
  if (!(longest > 0)) return;
  context.strokeStyle = colour("--arrow");
  context.lineWidth = 1;
  context.beginPath();
  arrows.forEach(([dx, dy], i) => {
    const length = (Math.hypot(dx, dy) / longest) * size * 0.95;
    if (!Number.isFinite(length) || length < 0.5) return;
    const angle = Math.atan2(-dy, dx);
    const [fromX, fromY] = [((i % cells) + 0.5) * size, side - (Math.floor(i / cells) + 0.5) * size];
    const [toX, toY] = [fromX + length * Math.cos(angle), fromY + length * Math.sin(angle)];
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
    for (const turn of [2.6, -2.6]) {
      context.moveTo(toX, toY);
      context.lineTo(toX + 0.3 * length * Math.cos(angle + turn), toY + 0.3 * length * Math.sin(angle + turn));
    }
  });
  context.stroke();
}
