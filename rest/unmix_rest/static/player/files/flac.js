// Slices of a flac: frames say their number but not where they are, so the first one of a slice is searched for by
// halving, each look a small range of the file; what was found is remembered.
//
// Relied on: frames have one number of samples (but for the last), as FFmpeg writes them, and decodeAudioData takes any
// run of frames behind the head of the file.

import { clockOf, divisor } from "./clock.js";
import { cut } from "./cut.js";

/** Bytes of a look, and of a sample in it: a frame of 4,608 is at most 28 KiB in 24 bits, so one begins in it. */
const LOOK_BYTES = 65_536;
const LOOK_SAMPLE_BYTES = 8;
/** Frames that are read besides, at the most, to begin with a sample that the player has too. */
const MOST_FRAMES_BEFORE = 16;
/** Bytes before a frame that are rather read than searched through. */
const NEAR_BYTES = 131_072;
const MOST_LOOKS = 24;

/** Read the head of a file, and return its `length` in samples and what makes a `slice` of it. */
export async function open(read, size, head) {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const block = view.getUint16(8);
  const length = (view.getUint8(21) & 15) * 2 ** 32 + view.getUint32(22);
  const clock = clockOf((view.getUint32(17) >>> 4) & 0xfffff);
  const four = async (at) => (at + 4 > head.length ? read(at, at + 4) : head.slice(at, at + 4));
  let start = 4;
  for (let isLast = false; !isLast; ) {
    if (start + 4 > size) throw new Error("no frame in this flac");
    const [first, ...bytes] = await four(start); // of a block, which may be a cover of megabytes
    isLast = first >= 128;
    start += 4 + bytes.reduce((length, byte) => length * 256 + byte, 0);
  }
  if (start + 4 > size) throw new Error("no frame in this flac");
  const kind = await four(start);
  const known = [{ frame: 0, at: start }];
  const look = Math.max(LOOK_BYTES, LOOK_SAMPLE_BYTES * block);
  const file = { read, block, kind, clock, look, frames: Math.ceil(length / block), known, size };
  return { length: Math.ceil(clock.ours(length)), slice: slicer(file, headOfRun(head)) };
}

function slicer(file, head) {
  const shared = file.clock.shared / divisor(file.clock.shared, file.block);
  const step = shared > MOST_FRAMES_BEFORE ? 1 : shared;
  return async (start, end, decode, signal) => {
    const reach = file.clock.reach(start, end);
    const first = step * Math.floor(reach.first / file.block / step);
    const behind = Math.min(Math.ceil(reach.last / file.block), file.frames);
    const begin = await near(file, first, signal);
    const run = await readRun(file, begin, behind, signal);
    const from = run.frames.findLast(({ frame }) => frame <= first) ?? run.frames[0];
    const to = run.frames.find(({ frame }) => frame >= behind)?.at ?? run.bytes.length;
    const data = new Uint8Array(head.length + to - from.at);
    data.set(head);
    data.set(run.bytes.subarray(from.at, to), head.length);
    const begins = Math.round(file.clock.ours(from.frame * file.block));
    return cut(await decode(data.buffer), start - begins, end - start);
  };
}

/** Return a frame that is known, at or before `wanted` and near enough to read from there. */
async function near(file, wanted, signal) {
  for (let look = 0; look < MOST_LOOKS; look += 1) {
    const low = file.known.findLast(({ frame }) => frame <= wanted);
    const high = file.known.find(({ frame }) => frame > wanted) ?? { frame: file.frames, at: file.size };
    const guess = low.at + ((high.at - low.at) * (wanted - low.frame)) / (high.frame - low.frame);
    if (guess - low.at <= NEAR_BYTES) return low;
    // Halving where the guess alone would come closer too slowly.
    const at = Math.floor(look % 3 === 2 ? (low.at + high.at) / 2 : guess - file.look / 2);
    const found = framesOf(await file.read(at, at + file.look, signal), file, low.frame, high.frame)[0];
    if (!found) break;
    remember(file, { frame: found.frame, at: at + found.at });
  }
  return file.known.findLast(({ frame }) => frame <= wanted);
}

/** Read from a known frame on until frame `behind` has begun, or the file is over. */
async function readRun(file, begin, behind, signal) {
  const perFrame = (file.size - file.known[0].at) / file.frames;
  let end = begin.at + Math.ceil((behind - begin.frame + 2) * perFrame * 1.25) + file.look;
  for (;;) {
    const bytes = await file.read(begin.at, end, signal);
    const frames = framesOf(bytes, file, begin.frame - 1, file.frames);
    if (end >= file.size || frames.at(-1)?.frame >= behind) {
      const next = frames.findLast(({ frame }) => frame <= behind);
      if (next) remember(file, { frame: next.frame, at: begin.at + next.at });
      return { bytes, frames };
    }
    end += bytes.length;
  }
}

function remember(file, point) {
  if (file.known.some(({ frame }) => frame === point.frame)) return;
  file.known.push(point);
  file.known.sort((one, other) => one.frame - other.frame);
}

/** Return the frames that begin in `bytes`, with numbers above `low` and below `high`, each one more than the one before. */
function framesOf(bytes, file, low, high) {
  const found = [];
  for (let at = 0; at + 16 < bytes.length; at += 1) {
    if (bytes[at] !== 0xff || bytes[at + 1] !== file.kind[1] || (bytes[at + 3] & 15) !== (file.kind[3] & 15)) continue;
    const frame = numberOf(bytes, at);
    if (bytes[at + 2] !== file.kind[2] && frame !== file.frames - 1) continue; // only the last one may be shorter
    const fits = found.length ? frame === found.at(-1).frame + 1 : frame > low && frame < high;
    if (fits) found.push({ frame, at });
  }
  return found;
}

/** Return the number of the frame whose header is at `at`, -1 if that is no header. */
function numberOf(bytes, at) {
  let next = at + 4;
  const first = bytes[next++];
  const more = first < 0x80 ? 0 : Math.clz32(~(first << 24)) - 1; // as UTF-8 has it
  if (more < 0 || more > 5 || first === 0xff) return -1;
  let number = more ? first & (0x3f >> more) : first;
  for (let index = 0; index < more; index += 1) number = number * 64 + (bytes[next++] & 0x3f);
  const [size, rate] = [bytes[at + 2] >> 4, bytes[at + 2] & 15];
  if (size === 6) next += 1;
  if (size === 7) next += 2;
  if (rate === 12) next += 1;
  if (rate === 13 || rate === 14) next += 2;
  return crc8(bytes, at, next) === bytes[next] ? number : -1;
}

function crc8(bytes, start, end) {
  let crc = 0;
  for (let at = start; at < end; at += 1) {
    crc ^= bytes[at];
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

/** Return a head for any run of frames: that of the file, of a length that is not said. */
function headOfRun(head) {
  const made = head.slice(0, 42);
  made[4] = 0x80; // nothing but this block is before the frames
  made[21] &= 0xf0;
  made.fill(0, 22); // the number of samples, and the MD5 of all of them
  return made;
}
