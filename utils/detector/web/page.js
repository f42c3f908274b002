// The page: takes a recording, has it decoded and scored, shows what is found.

import { decode } from "./decoding.js";
import { NotScored } from "./dsp.js";
import { draw, place, timeAt } from "./figure.js";
import { connectMicrophone } from "./microphone.js";
import { describe, heading, meaning, places, trust } from "./verdict.js";

const element = (id) => document.getElementById(id);
const player = element("player");
const canvas = element("figure");
const marker = element("marker");
const settings = document.documentElement.dataset;

let worker = null;
let loaded = false; // whether this worker has loaded the detector
let card = null; // of the detector, once it is loaded
let job = 0; // number of the newest recording
let active = false; // whether the worker is at it
let heardAt = 0; // when the worker last said something, or got something to do (ms)
let current = { name: "", notes: [] }; // what the newest recording is called; what decoding noted
let shown = null; // {result, p, width}: what the figure shows

// --- what is taken ---

/** Decode a Blob and have it scored. A recording before it is dropped. */
async function take(file, name) {
  const mine = ++job;
  active = false;
  if (!worker) start();
  worker.postMessage({ job });
  clear();
  progress(`Decoding ${name} …`);
  current = { name, notes: [] };
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  try {
    const { parts, notes } = await decode(file, name);
    if (mine !== job) return;
    current.notes = notes;
    active = true;
    heardAt = performance.now();
    progress(card ? "Scoring …" : "The detector is being loaded …");
    const waves = parts.flatMap(({ channels }) => channels);
    worker.postMessage(
      { job, parts },
      waves.map((wave) => wave.buffer),
    );
  } catch (error) {
    if (mine === job) refuse(error instanceof NotScored ? error.message : `${name}: ${error}`);
  }
}

element("choose").onclick = () => element("file").click();
element("file").onchange = ({ target }) => {
  if (target.files.length) take(target.files[0], target.files[0].name);
  target.value = ""; // the same file can be chosen again
};
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
};
document.ondragleave = ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dragging");
};
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const [file] = event.dataTransfer.files;
  if (file) take(file, file.name);
  else refuse("What was dropped is no file.");
};
for (const button of document.querySelectorAll("[data-example]")) {
  const content = fetch(button.dataset.example).then((response) => response.blob());
  content.catch(() => (button.disabled = true));
  button.onclick = async () => take(await content, `Example: ${button.textContent}`);
}
connectMicrophone(element("record"), (blob) => take(blob, "Your recording"), refuse);

// --- the worker ---

function start() {
  loaded = false;
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => {
    heardAt = performance.now();
    if (data.job === undefined || (data.job === job && active)) answers[data.kind](data);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    answers.broken({ message: event.message || "the scorer could not be started" });
  };
}

const answers = {
  loading({ part, bytes }) {
    const size = `${(bytes / 1e6).toFixed(0)} MB; your browser keeps it`;
    if (!card) progress(`Loading the detector (${size}) …`, part);
  },
  ready(message) {
    loaded = true;
    card = message.card;
    element("card").replaceChildren(...describe(card).map((text) => made("li", text)));
    settings.ready = message.seconds.toFixed(2);
    settings.threads = message.threads;
    progress(active ? "Scoring …" : "Ready: the detector is loaded.", active ? undefined : null);
  },
  step({ part }) {
    progress(shown ? "Scoring its parts …" : "Scoring …", part);
  },
  verdict({ result }) {
    shown = { result, p: null };
    const { heading: words, kind } = heading(result);
    const notes = [...current.notes, ...result.warnings].join("; ");
    const care = notes ? [made("p", made("strong", "Take care: "), `${notes}.`)] : [];
    const sentences = [meaning(result, card), trust(result, card)];
    const text = sentences.map((sentence) => made("p", sentence));
    showVerdict(kind, made("small", current.name), made("h2", words), ...text, ...care);
    element("where").textContent =
      "Where it looks fake" + (result.channel ? ` (channel ${result.channel})` : "");
    element("places").textContent = "Its parts are being scored …";
    element("heard").hidden = false;
    redraw();
    element("verdict").scrollIntoView({ block: "nearest" });
  },
  timeline({ p }) {
    active = false;
    shown.p = p;
    element("places").textContent = places(shown.result, p, card.threshold);
    canvas.setAttribute("aria-label", `Timeline. ${element("places").textContent}`);
    progress("Ready for the next recording.", null);
    redraw();
  },
  refused({ message }) {
    active = false;
    refuse(`${current.name}: ${[message, ...current.notes].join("; ")}.`);
  },
  broken({ message }) {
    restart(`Something went wrong in the scorer (${message}).`);
  },
};

/** Begin with a new worker, after the one before failed or stood still. */
function restart(message) {
  worker.terminate();
  worker = null;
  if (active || !loaded)
    refuse(`${active ? `${current.name}: ` : ""}${message} You can try again.`);
  active = false;
  if (loaded) start(); // else with the next recording: without a network it would go on for ever
}

setInterval(() => {
  const late = performance.now() - heardAt > 1000 * Number(settings.limitS);
  if (active && loaded && late) restart("It took too long and was stopped.");
}, 500);

// --- what is shown ---

/** An element with children: text or elements. */
function made(tag, ...children) {
  const result = document.createElement(tag);
  result.append(...children);
  return result;
}

/** part: 0 … 1 on the bar; undefined: unknown; null: no bar. */
function progress(text, part) {
  const bar = element("bar");
  element("doing").textContent = text;
  bar.hidden = part === null;
  if (part === undefined) bar.removeAttribute("value");
  else bar.value = part ?? 0;
}

function showVerdict(kind, ...children) {
  element("verdict").className = kind;
  element("verdict").dataset.p = shown ? shown.result.p.toFixed(6) : "";
  element("verdict").replaceChildren(...children);
}

function clear() {
  shown = null;
  showVerdict("");
  element("heard").hidden = true;
  player.pause();
}

function refuse(message) {
  clear();
  showVerdict("refused", made("h2", "Not scored"), made("p", message));
  progress("Ready for the next recording.", null);
}

function redraw() {
  if (!shown) return;
  shown.width = canvas.parentElement.clientWidth;
  draw(canvas, shown.result.wave, shown.p, card.threshold);
  marker.style.height = canvas.style.height;
}

new ResizeObserver(() => {
  if (shown && shown.width !== canvas.parentElement.clientWidth) redraw();
}).observe(canvas.parentElement);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

player.ontimeupdate = () => {
  marker.hidden = !shown || player.currentTime === 0;
  if (shown) {
    const at = place(player.currentTime, shown.result.seconds, canvas.clientWidth);
    marker.style.left = `${100 * at}%`;
  }
};
canvas.onclick = ({ offsetX }) => {
  const width = canvas.clientWidth;
  player.currentTime = timeAt(offsetX / width, shown.result.seconds, width);
};

start();
