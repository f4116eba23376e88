// Elements and pictures. Texts are set as text and never as markup.

/** An element with properties (class, aria-*, event listeners as onclick) and children, which may be texts. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.startsWith("aria")) made[name] = value;
    else made.setAttribute(name === "className" ? "class" : name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A labelled input: the label is its own line above it. */
export function field(text, input) {
  return element("label", { className: "field" }, element("span", {}, text), input);
}

/** A choice of texts; `change` is given the index. */
export function choice(texts, change, selected = 0) {
  const options = texts.map((text, i) => element("option", { value: String(i), selected: i === selected }, text));
  return element("select", { onchange: (event) => change(event.target.selectedIndex) }, ...options);
}

/** A slider; `change` is given its number. */
export function slider(label, { min, max, step, value }, change) {
  const shown = element("output", {}, format(value));
  const input = element("input", { type: "range", min, max, step, value: String(value), "aria-label": label });
  input.value = String(value);
  input.addEventListener("input", () => {
    shown.textContent = format(Number(input.value));
    change(Number(input.value));
  });
  const row = element("label", { className: "slider" }, element("span", {}, label), input, shown);
  row.set = (number) => {
    input.value = String(number);
    shown.textContent = format(number);
  };
  return row;
}

function format(number) {
  return String(Math.round(number * 100) / 100);
}

/** A value in [-1, 1] as a level of 0 to 255, rounded as Python does. */
function level(value) {
  return Math.floor((Math.min(1, Math.max(-1, value)) + 1) * 127.5 + 0.5);
}

/** Paints one image [H, W, C] in [-1, 1] on a canvas, pixel by pixel; of 2 and 4 channels the last is transparency. */
export function paint(canvas, values, [height, width, channels]) {
  canvas.width = width;
  canvas.height = height;
  const grey = channels < 3;
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    const at = i * channels;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = level(values[at + (grey ? 0 : c)]);
    image.data[4 * i + 3] = channels % 2 === 0 ? level(values[at + channels - 1]) : 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The colour of a CSS variable as it is in the theme that is shown. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Calls `redraw` when the theme changes between light and dark. */
export function onTheme(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

/** Calls `redraw` when an element has become wider or narrower; its height follows from what is drawn. */
export function onWidth(watched, redraw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (entry.contentRect.width === width) return;
    width = entry.contentRect.width;
    requestAnimationFrame(redraw);
  }).observe(watched);
}

/** A number with three digits, with a power of ten where it would be long. */
export function shortNumber(value) {
  const rounded = Number(value.toPrecision(3));
  const size = Math.abs(rounded);
  if (size === 0 || (size >= 1e-3 && size < 1e6)) return String(rounded);
  return rounded.toExponential().replace("e+", "e");
}
