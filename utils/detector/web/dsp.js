// Signal processing on waves, as in utils/audio/dsp.py. A wave is a Float32Array, full scale ±1.
// Levels are in dBFS: 0 is the power of a constant at full scale.

const PASS = 0.913; // the resampler's pass band ends here, as a part of the lower Nyquist frequency
const STOP = 1; // its stop band begins here
const STOP_DB = 120; // below the pass band, of what lies above the stop band

/** Something that cannot be scored: the message is a sentence for people. */
export class NotScored extends Error {}

/** Level in dBFS of consecutive frames of `seconds` without overlap, -120 at least. */
export function framesDbfs(wave, rate, seconds = 0.02) {
  const size = Math.max(1, Math.trunc(rate * seconds));
  const levels = new Float64Array(Math.max(1, Math.floor(wave.length / size)));
  for (let frame = 0; frame < levels.length; frame++) {
    let power = 0;
    for (let i = frame * size; i < Math.min(wave.length, (frame + 1) * size); i++) {
      power += wave[i] * wave[i];
    }
    levels[frame] = 10 * Math.log10(Math.max(power / size, 1e-12));
  }
  return levels;
}

/** Largest number of an array of any length; -Infinity for none. */
export const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

/** Largest size of a sample. */
export const peak = (wave) => wave.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

/** [start, end] from the first to the last sample over `part` of the peak, and `marginS` around. */
export function betweenQuietEnds(wave, rate, part = 0.02, marginS = 0.1) {
  const limit = part * peak(wave);
  const margin = Math.trunc(marginS * rate);
  let first = 0;
  let last = wave.length - 1;
  while (Math.abs(wave[first]) <= limit) first++;
  while (Math.abs(wave[last]) <= limit) last--;
  return [Math.max(0, first - margin), Math.min(wave.length, last + 1 + margin)];
}

/** Modified Bessel function of the first kind and order 0, by its power series. */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / 2 / k) ** 2;
  return sum;
}

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

const tables = new Map();

/** Taps of a windowed sinc (Kaiser) for each phase between two samples: {taps, half}. */
function table(source, target) {
  const name = `${source} ${target}`;
  if (tables.has(name)) return tables.get(name);
  const lower = Math.min(1, target / source);
  const beta = 0.1102 * (STOP_DB - 8.7);
  const crossings = (STOP_DB - 8) / (2.285 * Math.PI * (STOP - PASS)) / 2;
  const half = Math.ceil(crossings / lower);
  const up = target / divisor(source, target);
  const taps = new Float64Array(up * 2 * half);
  const cutoff = ((PASS + STOP) / 2) * lower;
  const highest = bessel(beta);
  for (let phase = 0; phase < up; phase++) {
    for (let k = 0; k < 2 * half; k++) {
      const t = k - half + 1 - phase / up;
      const x = Math.PI * cutoff * t;
      const window = bessel(beta * Math.sqrt(Math.max(0, 1 - (t / half) ** 2))) / highest;
      taps[phase * 2 * half + k] = cutoff * (x ? Math.sin(x) / x : 1) * window;
    }
  }
  tables.set(name, { taps, half });
  return tables.get(name);
}

/** Resample from `source` to `target` Hz, whole numbers, with the bands of soxr's high quality. */
export function resample(wave, source, target) {
  if (source === target) return wave;
  const { taps, half } = table(source, target);
  const up = target / divisor(source, target);
  const down = (source * up) / target;
  const padded = new Float32Array(wave.length + 2 * half);
  padded.set(wave, half);
  const result = new Float32Array(Math.ceil((wave.length * up) / down));
  for (let n = 0; n < result.length; n++) {
    const start = Math.floor((n * down) / up) + 1;
    const first = ((n * down) % up) * 2 * half;
    let sum = 0;
    for (let k = 0; k < 2 * half; k++) sum += padded[start + k] * taps[first + k];
    result[n] = sum;
  }
  return result;
}

/** A function from (wave, start) to the power in each bin (size / 2 + 1) of a frame under Hann's window. */
export function spectrum(size) {
  const bins = size / 2 + 1;
  const window = new Float64Array(size);
  const cosine = new Float64Array(bins * size);
  const sine = new Float64Array(bins * size);
  for (let i = 0; i < size; i++) {
    window[i] = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (size - 1));
    for (let bin = 0; bin < bins; bin++) {
      const angle = (2 * Math.PI * ((bin * i) % size)) / size;
      cosine[bin * size + i] = Math.cos(angle) * window[i];
      sine[bin * size + i] = Math.sin(angle) * window[i];
    }
  }
  return (wave, start) => {
    const frame = Float64Array.from({ length: size }, (_, i) => wave[start + i] ?? 0);
    const power = new Float64Array(bins);
    for (let bin = 0; bin < bins; bin++) {
      let a = 0;
      let b = 0;
      for (let i = 0; i < size; i++) {
        a += frame[i] * cosine[bin * size + i];
        b += frame[i] * sine[bin * size + i];
      }
      power[bin] = a * a + b * b;
    }
    return power;
  };
}
