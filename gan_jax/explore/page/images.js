// The page of a generator of images: seeds, one sample that is moved, walks between two, neighbours, curves.

import { rowsOf } from "./backend.js";
import { curvesSection } from "./curves.js";
import { choice, element, field, paint, shortNumber, slider } from "./draw.js";
import { coded, linear, moved, spherical, truncated } from "./latents.js";

const SHOWN = 36;
const STEPS = 9;
const WAIT = 3000;

export async function imagePage(root, backend, first, say) {
  const page = new ImagePage(root, backend, first, say);
  globalThis.explore = page; // for a console, and for tests
  await page.refresh();
  if (first.served) setInterval(() => page.follow(), WAIT);
}

class ImagePage {
  constructor(root, backend, description, say) {
    Object.assign(this, { root, backend, description, say });
    this.seed = 0; // the first of the grid
    this.truncation = 0;
    this.psi = 1;
    this.label = null; // null: the seed's own, in turn
    this.pins = {};
    this.t = 0.5;
    this.chosen = 0;
    this.draw = latestOnly(() => this.showSample(), (error) => say(error.message));
    this.walk = latestOnly(() => this.showWalk(), (error) => say(error.message));
    this.grid = latestOnly(() => this.showSeeds(), (error) => say(error.message));
    this.build();
  }

  get mapped() {
    return this.description.space === "w";
  }

  /** Draws everything again, as after a new checkpoint. */
  async refresh() {
    await this.grid();
    await this.draw();
  }

  /** Asks whether the run has saved a newer round, and shows it. */
  async follow() {
    try {
      const { checkpoint } = await this.backend.now();
      if (this.lost) this.say("");
      this.lost = false;
      if (checkpoint === this.description.checkpoint) return;
      const before = this.description;
      const after = await this.backend.describe();
      if (after.checkpoint === before.checkpoint) return;
      this.description = after;
      this.about.textContent = aboutText(after);
      await this.refresh();
      this.say(`Round ${after.round} is shown: the run has saved it.`);
    } catch (error) {
      this.lost = true;
      this.say(`The server does not answer: ${error.message}`);
    }
  }

  build() {
    const d = this.description;
    this.about = element("p", { className: "note" }, aboutText(d));
    this.root.replaceChildren(
      element("header", {}, element("h1", {}, d.name), this.about),
      element("div", { className: "columns" }, this.seedsSection(), this.sampleSection()),
      this.walkSection(),
      this.nearestSection(),
      curvesSection(this.backend, d.served),
    );
  }

  // The grid of seeds

  seedsSection() {
    const d = this.description;
    const most = d.served ? 2 ** 32 - 1 - SHOWN : Math.max(0, d.seeds - SHOWN);
    const input = element("input", { type: "number", min: 0, max: most, step: 1, value: "0" });
    input.addEventListener("change", () => {
      this.seed = Math.min(most, Math.max(0, Math.round(Number(input.value)) || 0));
      input.value = String(this.seed);
      this.refresh();
    });
    const controls = element("div", { className: "controls" }, field("First seed", input));
    if (d.classes.length) {
      const names = ["in turn", ...d.classes];
      controls.append(field("Class", choice(names, (i) => this.takeLabel(i === 0 ? null : i - 1))));
    }
    if (this.mapped) {
      const psi = slider("psi", { min: 0, max: 1, step: 0.05, value: 1 }, (value) => {
        this.psi = value;
        this.refresh();
      });
      controls.append(element("div", { className: "field" }, element("span", {}, "Truncation of w"), psi));
    } else if (d.truncations.length > 1) {
      const names = d.truncations.map((value) => (value === null ? "none" : `|z| up to ${value}`));
      controls.append(
        field("Truncation", choice(names, (i) => {
          this.truncation = i;
          this.refresh();
        })),
      );
    }
    this.cells = Array.from({ length: SHOWN }, (_, i) => {
      const canvas = element("canvas", { className: "pixels" });
      const cell = element("button", { type: "button", onclick: () => this.choose(i) }, canvas);
      cell.tabIndex = i ? -1 : 0;
      return { cell, canvas };
    });
    const list = element("div", { className: "seeds", role: "group", "aria-label": "Seeds; arrow keys move, Enter chooses" });
    list.append(...this.cells.map(({ cell }) => cell));
    list.addEventListener("keydown", (event) => this.key(event));
    return element("section", {}, element("h2", {}, "Seeds"), controls, list);
  }

  labelOf(seed) {
    const count = this.description.classes.length;
    if (!count) return 0;
    return this.label === null ? seed % count : this.label;
  }

  takeLabel(label) {
    this.label = label;
    this.refresh();
  }

  async showSeeds() {
    const first = this.seed;
    const latents = rowsOf(await this.backend.latents(first, SHOWN, this.truncation), SHOWN);
    if (first !== this.seed) return;
    this.seeds = latents.map((z, i) => ({ z, seed: first + i, label: this.labelOf(first + i) }));
    const together = this.description.served ? SHOWN : 6; // a browser shows the first ones while it makes the others
    for (let start = 0; start < SHOWN; start += together) {
      const part = this.seeds.slice(start, start + together);
      const labels = part.map(({ label }) => label);
      const points = await this.points(part.map(({ z }) => z), labels);
      const samples = rowsOf(await this.backend.samples(points, labels, part.map(({ seed }) => seed)), part.length);
      if (first !== this.seed) return;
      samples.forEach((sample, i) => {
        this.seeds[start + i].sample = sample;
        paint(this.cells[start + i].canvas, sample, this.description.shape);
      });
    }
    this.seeds.forEach(({ seed, label }, i) => {
      const named = this.description.classes.length ? `, ${this.description.classes[label]}` : "";
      this.cells[i].cell.setAttribute("aria-label", `seed ${seed}${named}`);
      this.cells[i].cell.title = `seed ${seed}${named}`;
    });
    this.mark();
  }

  /** The points that are moved, of latents: themselves, or their w. */
  async points(latents, labels) {
    if (!this.mapped) return latents;
    const w = rowsOf(await this.backend.map(latents, labels), latents.length);
    return this.psi === 1 ? w : w.map((row) => truncated(row, this.description.mean_w, this.psi));
  }

  choose(i) {
    this.chosen = i;
    this.mark();
    this.reset();
  }

  mark() {
    this.cells.forEach(({ cell }, i) => {
      cell.setAttribute("aria-pressed", String(i === this.chosen));
    });
  }

  key(event) {
    const cells = this.cells.map(({ cell }) => cell);
    const here = cells.indexOf(document.activeElement);
    const columns = cells.filter((cell) => cell.offsetTop === cells[0].offsetTop).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (here < 0 || step === undefined || !cells[here + step]) return;
    event.preventDefault();
    cells[here].tabIndex = -1;
    cells[here + step].tabIndex = 0;
    cells[here + step].focus();
  }

  // The sample that is moved

  sampleSection() {
    const d = this.description;
    this.canvas = element("canvas", { className: "pixels large", role: "img" });
    this.caption = element("p", { className: "note" });
    const range = { min: -3, max: 3, step: 0.1, value: 0 };
    this.amounts = d.directions.map(() => 0);
    this.sliders = d.directions.map((_, k) => {
      const share = `${Math.round(100 * d.shares[k])} %`;
      const row = slider(`${k + 1}`, range, (value) => {
        this.amounts[k] = value;
        this.draw();
      });
      row.title = `direction ${k + 1}, in standard deviations; ${share} of the variation`;
      return row;
    });
    const buttons = element(
      "div",
      { className: "controls" },
      element("button", { type: "button", onclick: () => this.reset() }, "Reset"),
      element("button", { type: "button", onclick: () => this.pin("A") }, "Pin as A"),
      element("button", { type: "button", onclick: () => this.pin("B") }, "Pin as B"),
    );
    const method = d.method ? `${d.method[0].toUpperCase()}${d.method.slice(1)}, in standard deviations.` : "";
    return element(
      "section",
      { className: "sample" },
      element("h2", {}, "Sample"),
      element("div", { className: "sides" },
        element("div", {}, this.canvas, this.caption, buttons),
        element("div", { className: "sliders" }, ...this.codeControls(), ...this.sliders, element("p", { className: "note" }, method)),
      ),
    );
  }

  /** Choices of categories and sliders of numbers, where the latent has a code. */
  codeControls() {
    const d = this.description;
    this.categories = d.categories.map(() => null);
    this.numbers = d.numbers.map(() => null);
    const choices = d.categories.map(([, size], part) => {
      const names = ["the seed's", ...Array.from({ length: size }, (_, i) => String(i))];
      return field(`Code ${part + 1}, category`, choice(names, (i) => {
        this.categories[part] = i === 0 ? null : i - 1;
        this.draw();
      }));
    });
    this.numberSliders = d.numbers.map((_, part) =>
      slider(`c${part + 1}`, { min: -1, max: 1, step: 0.05, value: 0 }, (value) => {
        this.numbers[part] = value;
        this.draw();
      }),
    );
    this.codeChoices = choices.map((label) => label.querySelector("select"));
    return [...choices, ...this.numberSliders];
  }

  reset() {
    this.amounts.fill(0);
    this.sliders.forEach((row) => row.set(0));
    this.categories.fill(null);
    this.codeChoices.forEach((select) => { select.selectedIndex = 0; });
    this.numbers.fill(null);
    this.description.numbers.forEach((place, part) => this.numberSliders[part].set(this.seeds[this.chosen].z[place]));
    return this.draw();
  }

  async showSample() {
    const d = this.description;
    const { z, seed, label } = this.seeds[this.chosen];
    const latent = coded(z, d.categories, this.categories, d.numbers, this.numbers);
    const [from] = await this.points([latent], [label]);
    const point = moved(from, d.directions, d.deviations, this.amounts);
    const sample = await this.backend.samples([point], [label], [seed]);
    this.current = { point, label, sample, seed };
    paint(this.canvas, sample, d.shape);
    const named = d.classes.length ? `, ${d.classes[label]}` : "";
    const changed = this.amounts.some((amount) => amount !== 0) ? ", moved" : "";
    this.caption.textContent = `Seed ${seed}${named}${changed}`;
    this.canvas.setAttribute("aria-label", `sample of seed ${seed}${named}${changed}`);
  }

  // Walks

  walkSection() {
    this.ends = { A: element("canvas", { className: "pixels" }), B: element("canvas", { className: "pixels" }) };
    this.between = element("canvas", { className: "pixels large", role: "img", "aria-label": "sample between A and B" });
    this.strip = Array.from({ length: STEPS }, () => element("canvas", { className: "pixels" }));
    const where = slider("from A to B", { min: 0, max: 1, step: 0.01, value: 0.5 }, (t) => {
      this.t = t;
      this.walk();
    });
    this.walkBody = element(
      "div",
      { hidden: true, className: "sides" },
      element("div", {}, this.between, where),
      element("div", { className: "strip", role: "img", "aria-label": "samples from A to B" }, ...this.strip),
    );
    this.walkNote = element("p", { className: "note" }, "Pin two samples as A and B, to walk from one to the other.");
    const heading = element("h2", {}, "Walk");
    return element("section", {}, heading, this.walkNote, this.walkBody);
  }

  pin(name) {
    if (!this.current) return;
    this.pins[name] = this.current;
    if (this.pins.A && this.pins.B) {
      this.walkBody.hidden = false;
      const kind = this.mapped ? "a line in w" : "a great arc in z";
      this.walkNote.textContent = `From seed ${this.pins.A.seed} to seed ${this.pins.B.seed} along ${kind}.`;
      this.walk();
    } else {
      const other = name === "A" ? "B" : "A";
      this.walkNote.textContent = `Seed ${this.current.seed} is pinned as ${name}: choose another and pin it as ${other}.`;
    }
  }

  async showWalk() {
    const { A, B } = this.pins;
    const line = this.mapped ? linear : spherical;
    const at = [this.t, ...this.strip.map((_, i) => i / (STEPS - 1))];
    const points = at.map((t) => line(A.point, B.point, t));
    const all = await this.backend.samples(points, points.map(() => A.label), points.map(() => A.seed));
    rowsOf(all, points.length).forEach((sample, i) => {
      paint(i ? this.strip[i - 1] : this.between, sample, this.description.shape);
    });
  }

  // Neighbours

  nearestSection() {
    const d = this.description;
    const section = element("section", {}, element("h2", {}, "Nearest training images"));
    if (!d.nearest.length) {
      section.append(element("p", { className: "note" }, d.note));
      return section;
    }
    const by = choice(d.nearest.map((name) => (name === "features" ? "features of the critic" : name)), () => {});
    const found = element("div", { className: "neighbours" });
    const button = element("button", { type: "button" }, "Find those of the sample");
    button.addEventListener("click", async () => {
      button.disabled = true;
      this.say("The training images are compared.");
      try {
        const list = await this.backend.nearest(this.current.sample, d.nearest[by.selectedIndex]);
        found.replaceChildren(
          ...list.map(({ index, distance, png }) => {
            const text = `image ${index}, at ${shortNumber(distance)}`;
            return element("figure", {}, element("img", { className: "pixels", src: png, alt: text }), element("figcaption", {}, text));
          }),
        );
        this.say("");
      } catch (error) {
        this.say(error.message);
      }
      button.disabled = false;
    });
    const note = d.note ? [element("p", { className: "note" }, d.note)] : [];
    section.append(element("div", { className: "controls" }, field("By", by), button), ...note, found);
    return section;
  }
}

function aboutText({ objective, player, round, weights, served }) {
  const kind = weights === "ema" ? "moving average" : "raw weights";
  const where = served ? "" : " Samples are made by this browser.";
  return `${objective ? `${objective}, ` : ""}${player} at round ${round}, ${kind}.${where}`;
}

/** The action, never twice at once: calls while it runs become one call after it. */
function latestOnly(action, failed) {
  let running = null;
  let again = false;
  const run = async () => {
    do {
      again = false;
      try {
        await action();
      } catch (error) {
        failed(error);
        console.error(error);
      }
    } while (again);
    running = null;
  };
  return () => {
    again = running !== null;
    running ??= run();
    return running;
  };
}
