// Waveform, spectrogram and probability of bona fide over time, on one canvas.

import { RATE, STEP_S } from "./scoring.js";
import { largest, peak, spectrum } from "./dsp.js";

const LEFT = 52;
const RIGHT = 12;
const GAP = 14;
const BOTTOM = 38; // px around the panels
const HEIGHTS = { wave: 70, spectrogram: 120, timeline: 110 };
const RANGE_DB = 80; // of the spectrogram, below its loudest point
const TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120];

/** Part of the width of the figure at which a time lies, for a marker above it. */
export function place(seconds, duration, width) {
  return (LEFT + Math.min(1, seconds / duration) * (width - LEFT - RIGHT)) / width;
}

/** Time in s at a part of the width. */
export function timeAt(part, duration, width) {
  const inside = (part * width - LEFT) / (width - LEFT - RIGHT);
  return Math.min(1, Math.max(0, inside)) * duration;
}

/**
 * Draw on a canvas as wide as its place on the page.
 * @param wave at RATE; p: probability of each STEP_S, or null while it is not known
 */
export function draw(canvas, wave, p, threshold) {
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const width = canvas.parentElement.clientWidth;
  const ratio = window.devicePixelRatio || 1;
  const height = Object.values(HEIGHTS).reduce((a, b) => a + b) + 3 * GAP + BOTTOM;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = `12px ${style.fontFamily}`;
  const area = { left: LEFT, width: width - LEFT - RIGHT, seconds: wave.length / RATE };
  let top = GAP;
  const panels = {};
  for (const [name, size] of Object.entries(HEIGHTS)) {
    panels[name] = { ...area, top, height: size };
    top += size + GAP;
  }
  drawWave(pen, panels.wave, wave, colour);
  drawSpectrogram(pen, panels.spectrogram, wave, ratio);
  drawTimeline(pen, panels.timeline, p, threshold, colour);
  if (p) {
    shade(pen, panels.wave, p, threshold, colour("spoof"));
    shade(pen, panels.timeline, p, threshold, colour("spoof"));
  }
  pen.fillStyle = pen.strokeStyle = colour("ink");
  for (const panel of Object.values(panels)) frame(pen, panel, colour);
  sideLabel(pen, panels.wave, "wave");
  sideLabel(pen, panels.spectrogram, "kHz", [
    [0, "0"],
    [0.5, "4"],
    [1, "8"],
  ]);
  sideLabel(
    pen,
    panels.timeline,
    "p(bona fide)",
    [0, 0.5, 1].map((p) => [share(p), String(p)]),
  );
  timeAxis(pen, panels.timeline);
}

function drawWave(pen, panel, wave, colour) {
  const highest = peak(wave) || 1;
  const middle = panel.top + panel.height / 2;
  pen.fillStyle = colour("wave");
  for (let x = 0; x < panel.width; x++) {
    const start = Math.floor((x / panel.width) * wave.length);
    const end = Math.max(start + 1, Math.floor(((x + 1) / panel.width) * wave.length));
    let low = 0;
    let high = 0;
    for (let i = start; i < end; i++) {
      low = Math.min(low, wave[i]);
      high = Math.max(high, wave[i]);
    }
    const scale = panel.height / 2 / highest;
    const size = Math.max(1, (high - low) * scale);
    pen.fillRect(panel.left + x, middle - high * scale, 1, size);
  }
}

function drawSpectrogram(pen, panel, wave, ratio) {
  const size = RATE / 50;
  const bins = size / 2;
  const powerOf = spectrum(size);
  const columns = Math.max(1, Math.round(Math.min(panel.width * ratio, 1000)));
  const levels = Array.from({ length: columns }, (_, x) => {
    const middle = ((x + 0.5) / columns) * wave.length;
    return powerOf(wave, Math.round(middle - size / 2)).map((v) => 10 * Math.log10(v + 1e-12));
  });
  const top = largest(levels.map(largest));
  const image = new ImageData(columns, bins);
  levels.forEach((column, x) => {
    for (let bin = 0; bin < bins; bin++) {
      const part = Math.min(1, Math.max(0, 1 - (top - column[bin]) / RANGE_DB));
      image.data.set(viridis(part), 4 * ((bins - 1 - bin) * columns + x));
    }
  });
  const small = new OffscreenCanvas(columns, bins);
  small.getContext("2d").putImageData(image, 0, 0);
  pen.drawImage(small, panel.left, panel.top, panel.width, panel.height);
}

const VIRIDIS = ["440154", "414487", "2a788e", "22a884", "7ad151", "fde725"].map((hex) =>
  [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)),
);

/** [red, green, blue, 255] of a number 0 … 1 on matplotlib's scale of that name. */
function viridis(part) {
  const at = part * (VIRIDIS.length - 1);
  const n = Math.min(VIRIDIS.length - 2, Math.floor(at));
  return [...VIRIDIS[n].map((c, i) => c + (at - n) * (VIRIDIS[n + 1][i] - c)), 255];
}

/** Part of the height of the timeline at which a probability lies: 0 and 1 are off its edges. */
const share = (value) => (value + 0.04) / 1.08;

function drawTimeline(pen, panel, p, threshold, colour) {
  const y = (value) => panel.top + (1 - share(value)) * panel.height;
  pen.strokeStyle = colour("muted");
  pen.setLineDash([5, 4]);
  line(pen, [
    [panel.left, y(threshold)],
    [panel.left + panel.width, y(threshold)],
  ]);
  pen.setLineDash([]);
  pen.fillStyle = colour("ink");
  if (!p) {
    pen.textAlign = "center";
    pen.fillText("being scored …", panel.left + panel.width / 2, panel.top + panel.height / 2 - 14);
    return;
  }
  pen.strokeStyle = colour("bonafide");
  pen.lineWidth = 2.5;
  for (const points of runs(p)) {
    line(
      pen,
      points.map(([seconds, value]) => [at(panel, seconds), y(value)]),
    );
  }
  pen.lineWidth = 1;
}

/** Steps of a timeline as lines of [s, p]; a gap where nothing is known. */
function runs(p) {
  const lines = [];
  p.forEach((value, n) => {
    if (!Number.isFinite(value)) return;
    if (!Number.isFinite(p[n - 1])) lines.push([]);
    lines.at(-1).push([n * STEP_S, value], [(n + 1) * STEP_S, value]);
  });
  return lines;
}

function shade(pen, panel, p, threshold, colour) {
  pen.fillStyle = colour;
  pen.globalAlpha = 0.25;
  p.forEach((value, n) => {
    const start = at(panel, n * STEP_S);
    const end = at(panel, (n + 1) * STEP_S);
    if (value <= threshold) pen.fillRect(start, panel.top, end - start, panel.height);
  });
  pen.globalAlpha = 1;
}

const at = (panel, seconds) => panel.left + Math.min(1, seconds / panel.seconds) * panel.width;

function line(pen, points) {
  pen.beginPath();
  points.forEach(([x, y]) => pen.lineTo(x, y));
  pen.stroke();
}

function frame(pen, panel, colour) {
  pen.strokeStyle = colour("muted");
  pen.strokeRect(panel.left, panel.top, panel.width, panel.height);
}

/** Label beside a panel, turned upwards; ticks: [[part of the height, text]]. */
function sideLabel(pen, panel, text, ticks = []) {
  pen.textAlign = "right";
  for (const [part, tick] of ticks) {
    pen.fillText(tick, panel.left - 6, panel.top + (1 - part) * panel.height + 4);
  }
  pen.save();
  pen.translate(14, panel.top + panel.height / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText(text, 0, 0);
  pen.restore();
}

function timeAxis(pen, panel) {
  const most = panel.width / 50;
  const step = TICKS.find((x) => panel.seconds / x <= most) ?? 300;
  const bottom = panel.top + panel.height;
  pen.textAlign = "center";
  for (let n = 0; n * step <= panel.seconds; n++) {
    const x = at(panel, n * step);
    line(pen, [
      [x, bottom],
      [x, bottom + 4],
    ]);
    pen.fillText(String(Math.round(10 * n * step) / 10), x, bottom + 17);
  }
  pen.fillText("time (s)", panel.left + panel.width / 2, bottom + 33);
}
