// Where samples come from: the server that computes them, or in a static folder the generator itself, by
// onnxruntime-web. Both have the same methods. Latents and samples are rows of one Float32Array.

import { joined, rowsOf } from "./latents.js";
import { boxed, nearestImages } from "./nearest.js";

async function answer(response) {
  if (response.ok) return response;
  let text = `${response.status}`;
  try {
    text = (await response.json()).error;
  } catch {
    // not an answer of this server
  }
  throw new Error(text);
}

const floats = async (response) => new Float32Array(await (await answer(response)).arrayBuffer());
const bytes = async (response) => new Uint8Array(await (await answer(response)).arrayBuffer());
const json = async (response) => (await answer(response)).json();

export class ServerBackend {
  describe() {
    return fetch("explore.json").then(json);
  }

  /** Which rounds are saved by now. */
  now() {
    return fetch("now.json").then(json);
  }

  latents(first, count, truncation) {
    return fetch(`latents.f32?first=${first}&count=${count}&truncation=${truncation}`).then(floats);
  }

  /** The w of latents, for generators with a mapping network. */
  map(latents, labels) {
    return post(`map.f32?labels=${labels.join(",")}`, joined(latents));
  }

  /** The samples of points of the space that the page moves, each with the noise of its seed where layers draw any. */
  samples(points, labels, seeds) {
    return post(`samples.f32?labels=${labels.join(",")}&seeds=${seeds.join(",")}`, joined(points));
  }

  nearest(image, by) {
    return fetch(`nearest.json?by=${by}`, { method: "POST", body: image }).then(json);
  }

  curves(after) {
    return fetch(`curves.json?after=${after}`).then(json);
  }

  checkpoint(round) {
    return fetch(`checkpoint.json?round=${round}`).then(json);
  }

  start(demo) {
    return fetch(`start.json?demo=${demo}`, { method: "POST" }).then(json);
  }

  play(demo, rounds) {
    return fetch(`play.json?demo=${demo}&rounds=${rounds}`, { method: "POST" }).then(json);
  }
}

function post(path, body) {
  return fetch(path, { method: "POST", body }).then(floats);
}

export class FolderBackend {
  constructor(description) {
    this.description = description;
    this.sessions = new Map();
    this.files = new Map();
    this.queue = Promise.resolve();
  }

  async latents(first, count, truncation) {
    const all = await this.kept(`latents_${truncation}.f32`, floats);
    const size = this.description.size;
    return all.slice(first * size, (first + count) * size);
  }

  async map(latents, labels) {
    return this.run("mapping.onnx", this.latentInputs(latents), labels);
  }

  /** As the server's, with one noise for all. */
  async samples(points, labels) {
    if (this.description.space === "z") return this.run("generator.onnx", this.latentInputs(points), labels);
    const shape = this.description.w_shape;
    return this.run("synthesis.onnx", { w: [joined(points), [points.length, ...shape]] }, null);
  }

  /** By pixels: the folder has images and no critic. */
  async nearest(image) {
    const { shape, training } = this.description;
    return nearestImages(await this.kept("training.u8", bytes), boxed(image, shape, training.factor), training.shape);
  }

  curves() {
    return this.kept("curves.json", json);
  }

  recording(name) {
    return this.kept(`frames_${name}.json`, json);
  }

  /** A file, fetched once. */
  kept(name, read) {
    if (!this.files.has(name)) this.files.set(name, fetch(name).then(read));
    return this.files.get(name);
  }

  /** Latents as the inputs z, or z_0, z_1, ... where a latent has several parts. */
  latentInputs(rows) {
    const shapes = this.description.latent;
    const inputs = {};
    let place = 0;
    shapes.forEach((shape, part) => {
      const size = shape.reduce((product, n) => product * n, 1);
      const from = place;
      const values = joined(rows.map((row) => row.subarray(from, from + size)));
      inputs[shapes.length === 1 ? "z" : `z_${part}`] = [values, [rows.length, ...shape]];
      place += size;
    });
    return inputs;
  }

  async run(file, inputs, labels) {
    const ort = await this.runtime();
    const feeds = {};
    for (const [name, [values, shape]] of Object.entries(inputs)) feeds[name] = new ort.Tensor("float32", values, shape);
    if (labels && this.description.classes.length) {
      feeds.labels = new ort.Tensor("int32", Int32Array.from(labels), [labels.length]);
    }
    const session = await this.session(ort, file);
    // A session runs one request at a time.
    const result = this.queue.then(() => session.run(feeds));
    this.queue = result.catch(() => {});
    return (await result).samples.data;
  }

  async runtime() {
    this.ort ??= import("./ort.wasm.min.mjs").then((ort) => {
      ort.env.wasm.numThreads = 1; // threads need headers that a plain file server does not send
      ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
      return ort;
    });
    return this.ort;
  }

  session(ort, file) {
    if (!this.sessions.has(file)) {
      this.sessions.set(file, ort.InferenceSession.create(file, { executionProviders: ["wasm"] }));
    }
    return this.sessions.get(file);
  }
}

export { rowsOf };
