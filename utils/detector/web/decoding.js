// A file → its channels, decoded by the browser.

import { NotScored } from "./dsp.js";
import { headerRate, split } from "./header.js";

const LONGEST_S = 600;
const LARGEST_MB = 100;
const LARGEST_UNKNOWN_MB = 20; // of a file whose length the browser does not tell beforehand
const LIMIT_S = 60; // for decoding
const ELSEWHERE = "the command line takes it: ./run_all.sh predict.";
const LOUD_PEAK = 2; // a peak beyond full scale is told from here on: that of lossy codecs is lower
const OFFSET_PART = 0.015; // of a channel's peak; a mean beyond it is no sound, and is subtracted
const TOLD_OFFSET = 0.05; // of that peak; less is not told
const MENDED = 4; // samples in a row; so many that are no numbers are drawn from those around them
const DEFAULT_RATE = 48000; // Hz, where the header names none that can be used

/**
 * Decode a Blob: {parts: [{channels: [Float32Array], rate}], notes}. There are several parts where
 * files were joined. Each has the rate of its header where it tells one, so that nothing but our own
 * resampler changes the samples. Throws NotScored, naming the file.
 */
export async function decode(file, name) {
  if (file.size === 0) throw new NotScored(`${name} is empty (0 bytes).`);
  const megabytes = file.size / 1e6;
  if (megabytes > LARGEST_MB) {
    const size = `${Math.round(megabytes)} MB are too large for this page (${LARGEST_MB} MB)`;
    throw new NotScored(`${name}: ${size}; ${ELSEWHERE}`);
  }
  const announced = await duration(file);
  if (Number.isFinite(announced) ? announced > LONGEST_S : megabytes > LARGEST_UNKNOWN_MB) {
    throw tooLong(name, announced);
  }
  const contents = split(new Uint8Array(await file.arrayBuffer()));
  const notes = [];
  const buffers = await decoded(name, contents, notes);
  const seconds = buffers.reduce((sum, buffer) => sum + buffer.duration, 0);
  if (seconds > LONGEST_S) throw tooLong(name, seconds);
  if (contents.length > 1) notes.push(`${contents.length} recordings joined`);
  else if (Number.isFinite(announced) && announced - seconds > 0.5) {
    notes.push(`${seconds.toFixed(1)} s of sound in a file of ${announced.toFixed(1)} s`);
  }
  const parts = buffers.map((buffer) => ({
    channels: channelsOf(buffer),
    rate: buffer.sampleRate,
  }));
  rescale(
    parts.flatMap(({ channels }) => channels),
    notes,
  );
  return { parts, notes };
}

/** An AudioBuffer of each content (Uint8Array) that the browser can decode in time. */
async function decoded(name, contents, notes) {
  const buffers = [];
  let late = false;
  const limit = new Promise((resolve) => setTimeout(() => resolve((late = true)), 1000 * LIMIT_S));
  for (const bytes of contents) {
    const size = bytes.length;
    const context = new OfflineAudioContext(1, 1, usableRate(headerRate(bytes)));
    const decoding = context.decodeAudioData(bytes.buffer).catch(() => null);
    const buffer = await Promise.race([decoding, limit]);
    if (late) break;
    if (buffer) buffers.push(buffer);
    else notes.push(`${size} bytes of it cannot be decoded`);
  }
  if (late || !buffers.length) {
    const reason = late ? "did not decode it in time" : "finds no sound in it that it can decode";
    const kinds = "WAV, MP3, FLAC, M4A, Ogg and WebM";
    throw new NotScored(
      `${name}: this browser ${reason}. It takes ${kinds}; ./run_all.sh predict reads more kinds.`,
    );
  }
  return buffers;
}

const channelsOf = (buffer) =>
  Array.from({ length: buffer.numberOfChannels }, (_, n) => buffer.getChannelData(n).slice());

function tooLong(name, seconds) {
  const minutes = Number.isFinite(seconds)
    ? `${Math.round(seconds / 60)} minutes are`
    : "it may be";
  const most = `too long for this page (${LONGEST_S / 60} minutes)`;
  return new NotScored(`${name}: ${minutes} ${most}; ${ELSEWHERE}`);
}

/** A rate in Hz that all browsers can decode to. */
const usableRate = (rate) => (rate >= 8000 && rate <= 96000 ? Math.round(rate) : DEFAULT_RATE);

/** Seconds that the browser's player expects a file to last, NaN where it does not tell. */
async function duration(file) {
  const player = new Audio();
  const address = URL.createObjectURL(file);
  const told = new Promise((resolve) => {
    player.onloadedmetadata = () => resolve(player.duration);
    player.onerror = () => resolve(NaN);
    setTimeout(() => resolve(NaN), 5000);
  });
  player.preload = "metadata";
  player.src = address;
  const seconds = await told;
  player.removeAttribute("src");
  player.load(); // lets go of the file
  URL.revokeObjectURL(address);
  return seconds;
}

const peak = (waves) =>
  waves.reduce((most, wave) => wave.reduce((a, b) => Math.max(a, Math.abs(b)), most), 0);

/**
 * Replace samples that are no numbers, in place: by a line over a few in a row, else by silence.
 * Returns how many, and how many by a line.
 */
function mend(wave) {
  let broken = 0;
  let drawn = 0;
  for (let i = 0; i < wave.length; i++) {
    const first = i;
    while (i < wave.length && !Number.isFinite(wave[i])) i++;
    const count = i - first;
    const short = count <= MENDED && first > 0 && i < wave.length;
    const step = short ? (wave[i] - wave[first - 1]) / (count + 1) : 0;
    for (let k = first; k < i; k++) wave[k] = short ? wave[k - 1] + step : 0;
    broken += count;
    if (short) drawn += count;
  }
  return [broken, drawn];
}

/** Bring waves, in place, to ±1 at most and to finite numbers. What is changed is added to `notes`. */
export function rescale(waves, notes) {
  let broken = 0;
  let drawn = 0;
  for (const wave of waves) {
    const [all, lines] = mend(wave);
    broken += all;
    drawn += lines;
  }
  const offset = waves.filter((wave) => {
    const mean = wave.reduce((a, b) => a + b, 0) / Math.max(1, wave.length);
    const part = Math.abs(mean) / peak([wave]);
    if (!(part > OFFSET_PART)) return false;
    for (let i = 0; i < wave.length; i++) wave[i] -= mean;
    return part > TOLD_OFFSET;
  });
  const highest = peak(waves);
  if (offset.length) notes.push("a constant offset: removed");
  const how = drawn ? "interpolated, if only a few in a row" : "taken as silence";
  if (broken) notes.push(`${broken} samples are NaN or infinite: ${how}`);
  if (highest > LOUD_PEAK) notes.push(`peak ${highest.toPrecision(5)}: rescaled`);
  if (highest <= 1) return;
  for (const wave of waves) wave.forEach((value, i) => (wave[i] = value / highest));
}
