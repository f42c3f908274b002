// Loads the encoders once, then scores one recording after another, away from the page.
// In:  {job, parts: [{channels: [Float32Array], rate}]}: what was decoded. A newer job ends the one
//      before it; without parts that is all.
// Out: {kind: "loading" | "ready" | "broken"} at the start; then for a job, in this order,
//      "step" (now and then), "verdict", "timeline", or "refused" or "broken" with a message.

import * as ort from "./ort.wasm.min.mjs";
import { NotScored, resample } from "./dsp.js";
import { Detector, RATE, probability, row } from "./scoring.js";

const MOST_THREADS = 4;
const CACHE = "deepfake-speech"; // of the browser: large files stay there for the next visit
class Superseded extends Error {}

let latest = 0; // number of the newest job
const opened = open().catch((error) => {
  postMessage({ kind: "broken", message: `the detector could not be loaded (${error.message})` });
  throw error; // for those who wait
});

self.onmessage = async ({ data: { job, parts } }) => {
  latest = job;
  if (!parts) return;
  try {
    const { description, run } = await opened;
    const pause = async (part) => {
      await new Promise((resolve) => setTimeout(resolve)); // newer messages come in
      if (job !== latest) throw new Superseded();
      postMessage({ kind: "step", job, part });
    };
    await score(new Detector(description, run, pause), job, parts);
  } catch (error) {
    if (error instanceof Superseded) return;
    const kind = error instanceof NotScored ? "refused" : "broken";
    postMessage({ kind, job, message: error.message || String(error) });
  }
};

async function score(detector, job, parts) {
  await detector.pause(0);
  const result = await row(detector, joined(parts));
  postMessage({ kind: "verdict", job, result });
  const logOdds = await detector.timeline(result.wave, result.head, result.logOdds);
  postMessage({ kind: "timeline", job, p: logOdds.map(probability) });
}

/** The channels at RATE of all parts, one after the other; a single one is repeated on all. */
function joined(parts) {
  const count = Math.max(...parts.map(({ channels }) => channels.length));
  return Array.from({ length: count }, (_, n) => {
    const waves = parts.map(({ channels, rate }) => {
      const missing = new Float32Array(channels[0].length);
      return resample(channels.length === 1 ? channels[0] : (channels[n] ?? missing), rate, RATE);
    });
    const starts = waves.map((_, i) => waves.slice(0, i).reduce((sum, w) => sum + w.length, 0));
    const result = new Float32Array(starts.at(-1) + waves.at(-1).length);
    waves.forEach((wave, i) => result.set(wave, starts[i]));
    return result;
  });
}

/** Fetch the files of the detector, telling how far that is: {description, run}. */
async function open() {
  const started = performance.now();
  const description = await (await fetch("detector.json")).json();
  const sizes = Object.values(description.files).map((file) => file.bytes);
  const total = sizes.reduce((a, b) => a + b);
  const loaded = {};
  const tell = (name, bytes) => {
    loaded[name] = bytes;
    const sum = Object.values(loaded).reduce((a, b) => a + b);
    postMessage({ kind: "loading", part: sum / total, bytes: total });
  };
  const contents = Object.entries(description.files).map(async ([name, file]) => [
    name,
    await kept(name, file, (bytes) => tell(name, bytes)),
  ]);
  const files = Object.fromEntries(await Promise.all(contents));
  for (const head of Object.values(description.heads)) {
    head.weight = floats(head.weight);
    head.speechWeight = floats(head.speechWeight);
  }
  ort.env.wasm.wasmBinary = files["ort-wasm-simd-threaded.wasm"];
  ort.env.wasm.numThreads = threads();
  const session = await ort.InferenceSession.create(new Uint8Array(files["encoders.onnx"]), {
    executionProviders: ["wasm"],
  });
  const run = async (wave) => {
    const input = new ort.Tensor("float32", Float32Array.from(wave), [1, wave.length]);
    return (await session.run({ wave: input })).statistics.data;
  };
  if (!latest) await run(new Float32Array(RATE).fill(0.1)); // slow at first, while nobody waits
  const seconds = (performance.now() - started) / 1000;
  postMessage({ kind: "ready", card: description.card, seconds, threads: threads() });
  return { description, run };
}

/** So many as there are cores, if the server allows threads (cross-origin isolation). */
function threads() {
  const cores = navigator.hardwareConcurrency || 1;
  return self.crossOriginIsolated ? Math.min(MOST_THREADS, cores) : 1;
}

/** float32 numbers from base64. */
function floats(text) {
  return new Float32Array(Uint8Array.from(atob(text), (x) => x.charCodeAt(0)).buffer);
}

/** Content (ArrayBuffer) of a file beside this one, from the browser's cache if it is there. */
async function kept(name, { bytes, sha256 }, tell) {
  const address = new URL(`${name}?${sha256}`, self.location).href;
  const cache = await self.caches?.open(CACHE).catch(() => null);
  const stored = await (await cache?.match(address))?.arrayBuffer();
  if (stored?.byteLength === bytes) {
    tell(bytes);
    return stored;
  }
  const content = await download(address, tell);
  if (content.byteLength !== bytes) throw new Error(`${name} is not complete`);
  for (const old of (await cache?.keys()) ?? []) {
    if (new URL(old.url).pathname === new URL(address).pathname) await cache.delete(old);
  }
  await cache?.put(address, new Response(content)).catch(() => {}); // no room: load it next time
  return content;
}

async function download(address, tell) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${new URL(address).pathname}: ${response.status}`);
  const chunks = [];
  let bytes = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return new Blob(chunks).arrayBuffer();
    chunks.push(value);
    tell((bytes += value.length));
  }
}
