// The detector, function by function as in utils/detector: channels.py, embedding.py, detector.py
// and scoring.py. Waves are Float32Arrays at RATE, full scale ±1. What runs the encoders comes from
// outside: a function from a wave to its statistics.

import {
  NotScored,
  betweenQuietEnds,
  framesDbfs,
  largest,
  peak,
  resample,
  spectrum,
} from "./dsp.js";

// channels.py
const ALIKE_R2 = 0.99; // squared correlation from which two channels count as the same sound
const QUIET_CHANNEL_DB = 50; // a channel so far below the loudest one is left out
const MOST_CHANNELS = 8; // that are scored; of more that differ, the loudest

/** The channels that differ and are not quiet beside the loudest one: [{name, wave}]. */
export function choose(waves) {
  const power = waves.map((wave) => inner(wave, wave));
  const count = waves.length;
  const enough = largest(power) * 10 ** (-QUIET_CHANNEL_DB / 10);
  const chosen = [];
  for (const n of waves.keys()) {
    const alike = (m) => inner(waves[n], waves[m]) ** 2 >= ALIKE_R2 * power[n] * power[m];
    if (power[n] >= enough && !chosen.some(alike)) chosen.push(n);
  }
  if (chosen.length === 1) return [{ name: "", wave: waves[chosen[0]] }];
  const loudest = chosen.sort((a, b) => power[b] - power[a]).slice(0, MOST_CHANNELS);
  return loudest.sort((a, b) => a - b).map((n) => ({ name: `${n + 1} of ${count}`, wave: waves[n] }));
}

function inner(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum / Math.max(1, a.length);
}

// embedding.py
export const RATE = 16000; // Hz, of the waves that the encoders take
const PIECE_S = 6; // longest piece of a recording
export const NARROW = "8 kHz"; // what a head hears: sound up to 4 kHz …
export const WIDE = "16 kHz"; // … or up to 8 kHz
const WIDE_FROM_HZ = 4400; // a recording whose sound reaches so high has the wide head
const BANDWIDTH_DB = 50; // sound: bands of 100 Hz within so much of the loudest one

/** A wave without what lies above 4 kHz. */
export function telephoneBand(wave) {
  return resample(resample(wave, RATE, RATE / 2), RATE / 2, RATE).subarray(0, wave.length);
}

/** Where the sound of a wave ends: the highest band of 100 Hz within BANDWIDTH_DB. */
export function bandwidthHz(wave) {
  const size = RATE / 50;
  const total = new Float64Array(size / 2 + 1);
  const powerOf = spectrum(size);
  for (let start = 0; start === 0 || start + size <= wave.length; start += size) {
    powerOf(wave, start).forEach((value, bin) => (total[bin] += value));
  }
  const bands = Array.from({ length: size / 4 }, (_, i) => total[2 * i] + total[2 * i + 1]);
  const enough = largest(bands) * 10 ** (-BANDWIDTH_DB / 10);
  return (bands.findLastIndex((value) => value >= enough) + 1) * 100;
}

/** [start, end] in samples of equal pieces of a wave, a power of two, none longer than PIECE_S. */
export function pieces(samples) {
  let count = 1;
  while (samples > count * PIECE_S * RATE) count *= 2;
  const edge = (i) => (i === count ? samples : Math.trunc(i * (samples / count)));
  return Array.from({ length: count }, (_, i) => [edge(i), edge(i + 1)]);
}

/** A wave of half of PIECE_S or less, doubled until it is longer. */
export function filled(wave) {
  while (wave.length > 0 && wave.length <= (PIECE_S * RATE) / 2) {
    const twice = new Float32Array(2 * wave.length);
    twice.set(wave);
    twice.set(wave, wave.length);
    wave = twice;
  }
  return wave;
}

// detector.py
const SHORTEST_S = 0.25; // of a recording that is scored at all
const SILENT_PEAK = 1e-4; // a recording without a larger sample is silent
const QUIET_DB = 40; // a piece so far below the loudest frame of the recording is not scored
const WINDOW_S = 2; // length of the windows of a timeline
export const STEP_S = 0.5; // from one window to the next, and between two values of a timeline
const LONG_S = 60; // of longer recordings the page scores only windows that do not overlap

/** [start, end] of windows of WINDOW_S, one every STEP_S; the last one ends with the wave. */
export function windows(samples) {
  const size = WINDOW_S * RATE;
  const last = Math.max(0, samples - size);
  const starts = new Set();
  for (let start = 0; start < Math.max(1, samples - size); start += STEP_S * RATE) {
    starts.add(start);
  }
  return [...starts.add(last)].map((start) => [start, Math.min(samples, start + size)]);
}

/** Middle of each step of STEP_S of a wave, in samples. */
export function stepMiddles(samples) {
  const count = Math.max(1, Math.ceil(samples / STEP_S / RATE));
  return Array.from({ length: count }, (_, i) => (i + 0.5) * STEP_S * RATE);
}

/** Log-odds of each step: the mean of all scored windows that cover its middle, NaN for none. */
export function byStep(samples, logits) {
  const edges = windows(samples);
  return stepMiddles(samples).map((middle) => {
    const at = Math.min(middle, samples - 1);
    const covers = ([start, end], n) => start <= at && at < end && Number.isFinite(logits[n]);
    return mean(logits.filter((_, n) => covers(edges[n], n)));
  });
}

/** [start s, end s] of each run of true values among steps of STEP_S. */
export function spans(flagged) {
  const found = [];
  flagged.forEach((value, n) => {
    if (value && !flagged[n - 1]) found.push([n * STEP_S, n * STEP_S]);
    if (value) found.at(-1)[1] = (n + 1) * STEP_S;
  });
  return found;
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length; // NaN for none

/** Throw NotScored for a wave that is too short or silent. */
export function check(wave) {
  if (wave.length < SHORTEST_S * RATE) {
    throw new NotScored(`${(wave.length / RATE).toFixed(2)} s is too short to score`);
  }
  if (peak(wave) < SILENT_PEAK) throw new NotScored("silent: no piece of it can be scored");
}

/** Whether each part [start, end] of a wave has a frame within QUIET_DB of the loudest one. */
export function audible(wave, cuts) {
  const limit = largest(framesDbfs(wave, RATE)) - QUIET_DB;
  return cuts.map(([start, end]) => largest(framesDbfs(wave.subarray(start, end), RATE)) > limit);
}

/** A trained detector. */
export class Detector {
  /**
   * @param description what page.py wrote to detector.json: {card, heads, …}
   * @param run the encoders: wave → statistics, a promise of a Float32Array
   * @param pause called with the part that is done, 0 … 1, before each run of the encoders; what
   *   it throws ends the scoring
   */
  constructor(description, run, pause = async () => {}) {
    this.card = description.card;
    this.heads = description.heads;
    this.run = run;
    this.pause = pause;
  }

  /** Which head a recording has. */
  band(wave) {
    return bandwidthHz(wave) >= WIDE_FROM_HZ ? WIDE : NARROW;
  }

  /** {logOdds, speaks} of a wave by one head. fill: a short one is repeated. */
  async scored(wave, band, fill = false) {
    const head = this.heads[band];
    const heard = band === WIDE ? wave : telephoneBand(wave);
    const statistics = await this.run(fill ? filled(heard) : heard);
    const sum = (weight, bias) => weight.reduce((total, w, i) => total + w * statistics[i], bias);
    const logOdds = sum(head.weight, head.bias);
    if (!Number.isFinite(logOdds)) {
      throw new NotScored("no finite score: the detector or its runtime is damaged");
    }
    return { logOdds, speaks: sum(head.speechWeight, head.speechBias) > 0 };
  }

  /** Score equal pieces between the quiet ends: [{startS, endS, logOdds, speaks}]. */
  async pieces(wave, band) {
    check(wave);
    const [start, end] = betweenQuietEnds(wave, RATE);
    const sounding = wave.subarray(start, end);
    const cuts = pieces(sounding.length);
    const heard = audible(sounding, cuts);
    const result = [];
    for (const [first, last] of cuts.filter((_, n) => heard[n])) {
      await this.pause(first / sounding.length);
      const score = await this.scored(sounding.subarray(first, last), band, true);
      result.push({ startS: (start + first) / RATE, endS: (start + last) / RATE, ...score });
    }
    return result;
  }

  /** Log-odds of each STEP_S of a wave whose log-odds are `logOdds`; NaN where nobody speaks. */
  async timeline(wave, band, logOdds) {
    const cuts = windows(wave.length);
    const heard = audible(wave, cuts);
    const scores = cuts.map(() => null);
    const every = wave.length > LONG_S * RATE ? WINDOW_S / STEP_S : 1;
    for (const [n, [start, end]] of cuts.entries()) {
      if (!heard[n] || (n % every && n !== cuts.length - 1)) continue;
      await this.pause(start / wave.length);
      scores[n] = await this.scored(wave.subarray(start, end), band);
    }
    const anybody = scores.some((score) => score?.speaks);
    const logits = scores.map((x) => (x && (x.speaks || !anybody) ? x.logOdds : NaN));
    return byStep(wave.length, around(logits, logOdds, this.heads[band].windowSlope));
  }
}

/** The pieces that decide: those in which somebody speaks, or all if nobody does. */
export function voting(scored) {
  const spoken = scored.filter((piece) => piece.speaks);
  return spoken.length ? spoken : scored;
}

/** {number, logOdds} of the channel, of lists of pieces, that looks most like a spoof. */
export function lowest(recorded) {
  const logOdds = recorded.map((x) => mean(voting(x).map((piece) => piece.logOdds)));
  const speaks = recorded.map((x) => x.some((piece) => piece.speaks));
  const counts = [...recorded.keys()].filter((n) => speaks[n] || !speaks.includes(true));
  const number = counts.reduce((a, b) => (logOdds[b] < logOdds[a] ? b : a));
  return { number, logOdds: logOdds[number] };
}

/** Log-odds of windows, brought to the mean `logOdds`; NaN stays NaN. */
export function around(logits, logOdds, slope) {
  const middle = mean(logits.filter(Number.isFinite));
  return logits.map((value) => logOdds + slope * (value - middle));
}

// scoring.py
const SHORT_S = 1; // of sound; the detector was trained on nothing shorter
const NEAR_PEAK = 0.7; // a sample above this part of the peak counts as near the peak
const CLIPPED_FRACTION = 0.03; // of samples near the peak

export const probability = (logOdds) => 1 / (1 + Math.exp(-logOdds));

/** What is said of a recording, without its timeline. Throws NotScored. `waves`: its channels. */
export async function row(detector, waves) {
  const chosen = choose(waves);
  const bands = chosen.map(({ wave }) => detector.band(wave));
  const recorded = [];
  for (const [n, { wave }] of chosen.entries()) {
    recorded.push(await detector.pieces(wave, bands[n]));
  }
  const { number, logOdds } = lowest(recorded);
  const { name, wave } = chosen[number];
  const found = recorded[number];
  const p = probability(logOdds);
  const votes = voting(found);
  const low = votes.reduce((a, b) => (b.logOdds < a.logOdds ? b : a));
  return {
    p,
    logOdds,
    bonafide: p > detector.card.threshold,
    head: bands[number],
    channel: name,
    pChannels: chosen.map((x, n) => [x.name, probability(lowest([recorded[n]]).logOdds)]),
    seconds: wave.length / RATE,
    lowest: found.length > 1 ? { ...low, p: probability(low.logOdds) } : null,
    warnings: warnings(
      wave,
      found.some((piece) => piece.speaks),
    ),
    wave,
  };
}

/** Reasons to doubt the score of a wave. speaks: whether somebody speaks in a piece of it. */
export function warnings(wave, speaks) {
  const frameS = 0.02;
  const level = framesDbfs(wave, RATE, frameS);
  const loudest = largest(level);
  const soundS = frameS * level.filter((value) => value > loudest - 40).length;
  const high = NEAR_PEAK * peak(wave);
  const result = [];
  const nearPeak = wave.filter((value) => Math.abs(value) > high).length / wave.length;
  if (soundS < SHORT_S) {
    result.push(`only ${soundS.toFixed(1)} s of sound: shorter than anything it was trained on`);
  }
  if (!speaks) result.push("nobody seems to speak (music? noise?)");
  if (nearPeak > CLIPPED_FRACTION) {
    const percent = Math.round(100 * nearPeak);
    result.push(`clipped or overdriven (${percent}% of the samples near the peak)`);
  }
  return result;
}
