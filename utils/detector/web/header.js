// What the bytes of an audio file tell before the browser decodes them: whether it is several files
// that were joined, and its sampling rate.

const SHORTEST_BYTES = 512; // of a part; the streams of one Ogg file begin closer to each other
const SCAN_BYTES = 2 ** 20;
// How files of a kind begin, as in utils/audio/decoding/parts.py; in windows-1252, 0x80 is the euro.
// What is missing here (MP3, AAC), the browser itself reads to the end where it was joined.
const BEGINNINGS = [
  /OggS\0\x02.{12}\0{4}/gs,
  /RIFF.{4}WAVE/gs,
  /fLaC[\0\u20ac]\0\0\x22/gs,
  /\0\0\0[\x0c-\x60]ftyp[ -~]{4}/gs,
  /\x1aE\xdf\xa3.{1,40}(?:webm|matroska)/gs,
];

/** The parts (Uint8Array) of a file: one, or several files of one kind that were joined. */
export function split(bytes) {
  const decoder = new TextDecoder("windows-1252");
  const begins = [0];
  const block = (at, size) => decoder.decode(bytes.subarray(at, at + size));
  const beginning = BEGINNINGS.find((pattern) => block(0, 64).search(pattern) === 0);
  let last = 0;
  for (let at = 0; beginning && at < bytes.length; at += SCAN_BYTES) {
    for (const { index } of block(at, SCAN_BYTES + 64).matchAll(beginning)) {
      const begin = at + index;
      if (begin - last >= SHORTEST_BYTES && bytes.length - begin >= SHORTEST_BYTES) {
        begins.push(begin);
      }
      last = Math.max(last, begin);
    }
  }
  return begins.map((begin, n) => bytes.slice(begin, begins[n + 1]));
}

/**
 * Rate in Hz, or 0 where none is found. It only asks the browser's decoder to leave the samples as
 * they are: where it is wrong or missing, the browser resamples.
 */
export function headerRate(bytes) {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (text(bytes, 0, "RIFF") || text(bytes, 0, "RF64")) return wav(bytes, data);
    if (text(bytes, 0, "fLaC")) return flac(data, 8);
    if (text(bytes, 0, "OggS")) return ogg(bytes, data);
    if (text(bytes, 4, "ftyp")) return mp4(bytes, data);
    if (text(bytes, 0, "\x1aE\xdf\xa3")) return matroska(bytes, data);
    return frames(bytes, data);
  } catch (error) {
    if (error instanceof RangeError) return 0; // the header is cut
    throw error;
  }
}

const text = (bytes, at, word) => [...word].every((x, i) => bytes[at + i] === x.charCodeAt(0));

/** Where a word begins in `bytes` from `at` on, -1 for nowhere. */
function find(bytes, word, at = 0, end = bytes.length) {
  const first = word.charCodeAt(0);
  for (let i = bytes.indexOf(first, at); i >= 0 && i < end; i = bytes.indexOf(first, i + 1)) {
    if (text(bytes, i, word)) return i;
  }
  return -1;
}

function wav(bytes, data) {
  for (let at = 12; ; at += 8 + data.getUint32(at + 4, true)) {
    if (text(bytes, at, "fmt ")) return data.getUint32(at + 12, true);
  }
}

const flac = (data, at) => data.getUint32(at + 10) >>> 12; // at: the block STREAMINFO

function ogg(bytes, data) {
  const page = 28; // a first page holds one packet
  if (text(bytes, page, "OpusHead")) return 48000;
  if (text(bytes, page, "\x01vorbis")) return data.getUint32(page + 12, true);
  return text(bytes, page + 9, "fLaC") ? flac(data, page + 17) : 0;
}

function mp4(bytes, data) {
  if (find(bytes, "Opus") >= 0) return 48000;
  const entry = ["mp4a", "fLaC", "alac"].map((word) => find(bytes, word)).find((at) => at >= 0);
  return entry === undefined ? 0 : spectralBands(data.getUint16(entry + 28));
}

function matroska(bytes, data) {
  const head = 4096; // bytes in which the tracks are described
  if (find(bytes, "A_OPUS", 0, head) >= 0) return 48000;
  const four = find(bytes, "\xb5\x84", 0, head);
  const eight = find(bytes, "\xb5\x88", 0, head);
  if (four >= 0) return data.getFloat32(four + 2);
  return eight >= 0 ? data.getFloat64(eight + 2) : 0;
}

/** MPEG audio and AAC: frames without a container, maybe behind ID3 tags. */
function frames(bytes, data) {
  let at = 0;
  while (text(bytes, at, "ID3")) {
    at += 10 + bytes.slice(at + 6, at + 10).reduce((size, part) => size * 128 + part, 0);
  }
  at = bytes.indexOf(0xff, at);
  while (at >= 0 && (bytes[at + 1] & 0xe0) !== 0xe0) at = bytes.indexOf(0xff, at + 1);
  if (at < 0) return 0;
  const [second, third] = [data.getUint8(at + 1), data.getUint8(at + 2)];
  if ((second & 0xf6) === 0xf0) return spectralBands(AAC_RATES[(third >> 2) & 15] ?? 0);
  const rate = [44100, 48000, 32000, 0][(third >> 2) & 3];
  return rate / [4, 0, 2, 1][(second >> 3) & 3] || 0;
}

const AAC_RATES = [
  96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000,
];

/** Below 32 kHz, AAC often has replicated spectral bands: it decodes to twice the rate. */
const spectralBands = (rate) => (rate >= 22050 && rate < 32000 ? 2 * rate : rate);
