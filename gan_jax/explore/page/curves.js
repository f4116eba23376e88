// The curves of a run: a small chart for each metric, kept up to date where the page is served.

import { colour, element, onTheme, onWidth, shortNumber } from "./draw.js";

const FIRST = 6;
const WAIT = 3000;

/** A section with the run's curves; `live` asks for new records every three seconds. */
export function curvesSection(backend, live) {
  const charts = element("div", { className: "charts" });
  const rest = element("div", { className: "charts" });
  const more = element("details", { hidden: true }, element("summary", {}, "More"), rest);
  const empty = element("p", { className: "note" }, "Nothing is logged yet.");
  const section = element("section", { className: "curves" }, element("h2", {}, "Curves of the run"), empty, charts, more);
  const state = { records: [], last: -1, shown: new Map() };

  async function update() {
    let news = await backend.curves(state.last + 1);
    if (news.last < state.last) {
      // the run went back to an earlier checkpoint
      state.records = [];
      news = await backend.curves(0);
    }
    if (news.last === state.last) return;
    state.records.push(...news.records);
    state.last = news.last;
    draw();
  }

  function draw() {
    const names = metricNames(state.records);
    empty.hidden = names.length > 0;
    more.hidden = names.length <= FIRST;
    names.forEach((name, i) => {
      if (!state.shown.has(name)) {
        const canvas = element("canvas", { role: "img" });
        const figure = element("figure", {}, element("figcaption", {}, name), canvas);
        state.shown.set(name, canvas);
        (i < FIRST ? charts : rest).append(figure);
      }
      const canvas = state.shown.get(name);
      const series = state.records.map((record) => [record.step, number(record[name])]).filter(([, y]) => y !== null);
      plot(canvas, series);
      canvas.setAttribute("aria-label", `${name}, last ${shortNumber(series.at(-1)[1])} at round ${series.at(-1)[0]}`);
    });
  }

  onTheme(draw);
  more.addEventListener("toggle", draw);
  onWidth(section, draw);
  update().catch(() => {});
  if (live) setInterval(() => update().catch(() => {}), WAIT);
  return section;
}

/** Losses first, then the other numbers in the order of their names. */
function metricNames(records) {
  const names = new Set();
  for (const record of records) {
    for (const name of Object.keys(record)) {
      if (name !== "step" && name !== "time" && number(record[name]) !== null) names.add(name);
    }
  }
  const isLoss = (name) => name.endsWith("/loss");
  return [...names].sort((a, b) => isLoss(b) - isLoss(a) || (a < b ? -1 : 1));
}

/** A metric as a number: of several seeds their mean; null where it is not finite or no number. */
function number(value) {
  if (Array.isArray(value)) {
    const numbers = value.map(number);
    return numbers.length === 0 || numbers.includes(null) ? null : numbers.reduce((a, b) => a + b) / numbers.length;
  }
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function plot(canvas, series) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height || !series.length) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  const ys = series.map(([, y]) => y);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const [first, last] = [series[0][0], series.at(-1)[0]];
  const widest = Math.max(...[low, high].map((value) => context.measureText(shortNumber(value)).width));
  const box = { left: Math.max(52, widest + 12), right: width - 8, top: 8, bottom: height - 18 };
  const x = (step) => box.left + ((step - first) / (last - first || 1)) * (box.right - box.left);
  const y = (value) => (high > low ? box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top) : (box.top + box.bottom) / 2);
  context.strokeStyle = colour("--line");
  context.beginPath();
  context.moveTo(box.left, box.bottom + 0.5);
  context.lineTo(box.right, box.bottom + 0.5);
  context.stroke();
  context.fillStyle = colour("--muted");
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillText(shortNumber(high), box.left - 6, high > low ? box.top + 4 : y(high));
  if (high > low) context.fillText(shortNumber(low), box.left - 6, box.bottom - 4);
  context.textBaseline = "top";
  context.fillText(String(last), box.right, box.bottom + 4);
  context.textAlign = "left";
  context.fillText(String(first), box.left, box.bottom + 4);
  context.strokeStyle = colour("--accent");
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.beginPath();
  series.forEach(([step, value], i) => (i ? context.lineTo(x(step), y(value)) : context.moveTo(x(step), y(value))));
  context.stroke();
  if (series.length === 1) {
    context.fillStyle = colour("--accent");
    context.fillRect(x(first) - 2, y(ys[0]) - 2, 4, 4);
  }
}
