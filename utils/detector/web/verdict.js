// What is said of a recording, in words.

import { NARROW, spans } from "./scoring.js";

const PROBABLY = 0.8; // a probability at least this far to one side is 'probably', any other 'leans to'
const MOST_SPANS = 6; // that are listed
const EVEN = 0.5;

/** {heading, kind: "bonafide" | "spoof" | "unclear"} of a result of scoring.row. */
export function heading({ p, bonafide }) {
  const clear = Math.max(p, 1 - p) >= PROBABLY;
  if (bonafide && p < EVEN) {
    return { heading: "Hard to say: not enough to call it synthetic", kind: "unclear" };
  }
  if (bonafide) {
    const words = clear ? "Probably a recording of a person" : "Leans to a recording of a person";
    return { heading: words, kind: "bonafide" };
  }
  const words = clear ? "Probably synthetic or manipulated" : "Leans to synthetic or manipulated";
  return { heading: words, kind: "spoof" };
}

/** What the number means. */
export function meaning({ p, bonafide }, { threshold }) {
  const hundred = Math.round(100 * p);
  const number = digits(p, threshold);
  let text = `p(bona fide) = ${number}: if half of all clips were genuine, about ${hundred} of 100 clips with this score would be.`;
  if (bonafide === p < EVEN) {
    text += ` The detector calls a recording synthetic at ${digits(threshold, p)} and below, so that few people are wronged.`;
  }
  return text;
}

/** How long the sound is, what was heard of it, and how often the detector is wrong. */
export function trust({ seconds, head, channel, pChannels, lowest, bonafide }, card) {
  const heard = head === NARROW ? "up to 4 kHz (as on a telephone)" : "up to 8 kHz";
  const sentences = [`${seconds.toFixed(1)} s, heard ${heard}.`];
  if (channel) {
    const list = pChannels.map(([name, p]) => `${name.split(" ")[0]}: ${p.toFixed(2)}`).join(", ");
    sentences.push(
      `Its channels differ and are scored apart (${list}); the lowest counts: channel ${channel}.`,
    );
  }
  if (lowest) {
    const where = range(lowest.startS, lowest.endS, seconds);
    const p = digits(lowest.p, card.threshold);
    const but =
      bonafide && lowest.p <= card.threshold ? ", which alone would count as synthetic" : "";
    sentences.push(`It is scored in equal pieces; the lowest is ${p} at ${where}${but}.`);
  }
  sentences.push(
    `Of recordings from sources that it was not trained on, this detector recognises ${percent(card.recall_bonafide)} of the genuine and ${percent(card.recall_spoof)} of the fake ones. It is no evidence against anybody.`,
  );
  return sentences.join(" ");
}

/** Where it looks fake, so that it does not contradict the verdict. `p`: the timeline. */
export function places({ bonafide, seconds, lowest }, p, threshold) {
  const flagged = p.map((value) => value <= threshold);
  const scored = p.filter(Number.isFinite).length;
  const found = spans(flagged).map(([start, end]) => [start, Math.min(end, seconds)]);
  const all = flagged.filter(Boolean).length === scored;
  const list = found.slice(0, MOST_SPANS).map(([start, end]) => range(start, end, seconds));
  const more = found.length > MOST_SPANS ? ` and ${found.length - MOST_SPANS} more` : "";
  const where = list.join(", ") + more;
  const limits =
    " Parts are less certain than the whole: the line says where to listen, the verdict is about the whole recording.";
  if (!scored) return "No part of it is long or loud enough for a timeline.";
  if (bonafide && !found.length && lowest?.p <= threshold) {
    return (
      "In windows of 2 s no part falls below the threshold, the piece that is named above does." +
      limits
    );
  }
  if (bonafide && !found.length) return "No part of it looks fake.";
  if (bonafide && all)
    return "By itself every part falls just below the threshold, the whole does not." + limits;
  if (bonafide) {
    return `Although the whole counts as a recording of a person, these parts look fake: ${where} (shaded). Something may have been put in there.${limits}`;
  }
  if (!found.length) return "By itself no part falls below the threshold, the whole does." + limits;
  if (all) return "All of it looks fake (shaded).";
  return `These parts look fake: ${where} (shaded); the others do not, by themselves.${limits}`;
}

/** What the card of a detector says, as sentences. */
export function describe(card) {
  const sentences = [];
  const trained = card.trained_on;
  if (trained) {
    sentences.push(
      `It was trained on ${grouped(trained.clips)} clips (${grouped(trained.bonafide)} of them genuine) of ${grouped(trained.owners)} publishers, in ${trained.languages} languages, with ${grouped(trained.systems)} synthesisers.`,
    );
  }
  for (const [head, { eer }] of Object.entries(card.owners_left_out ?? {})) {
    const band = head === NARROW ? "up to 4 kHz" : "up to 8 kHz";
    sentences.push(
      `On publishers that training left out, heard ${band}, its equal error rate is ${percent(eer)}.`,
    );
  }
  sentences.push(
    `A recording is called synthetic at p(bona fide) = ${card.threshold.toFixed(2)} and below.`,
  );
  if (card.segment_eer) {
    sentences.push(
      `The parts of the timeline are wrong more often: equal error rate ${percent(card.segment_eer)}.`,
    );
  }
  if (card.limits) sentences.push(`Limits: ${card.limits}.`);
  return sentences;
}

const percent = (part) => `${Math.round(100 * part)}%`;
const grouped = (count) => count.toLocaleString("en");

/** A stretch of a recording of `seconds`: in s, or in minutes and seconds as on a player. */
function range(start, end, seconds) {
  if (seconds < 60) return `${short(start)}–${short(end)} s`;
  return `${clock(start)}–${clock(end)}`;
}

const short = (value) => String(Math.round(10 * value) / 10);

function clock(value) {
  const whole = Math.round(value);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** A probability with two digits, or more where two would not tell it from the other one. */
function digits(p, other) {
  const count = [2, 3, 4].find((n) => p.toFixed(n) !== other.toFixed(n));
  return p.toFixed(count ?? 5);
}
