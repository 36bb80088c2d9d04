// Slices of an mp3 of constant bit rate, as this service makes them: frames are found by counting, and decoded with a few
// before them.
//
// A frame may use bits of the frames before it, and its sound overlaps with theirs: so a slice begins with frames that
// are decoded and thrown away. The Info frame, the first of all, says how many samples the encoder has put first. Before
// it there may be a tag, with a cover.

import { cut } from "./cut.js";
import { RATE } from "../units.js";

const FRAME_SAMPLES = 1152;
/** Samples by which every decoder is late. */
const DECODER_DELAY = 529;
/** Frames that are decoded before a slice: the lowest bit rates lend bits over the most. */
const PREROLL = 12;
const BIT_RATES = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];

/** Read the head of a file, and return its `length` in samples and what makes a `slice` of it. */
export async function open(read, size, begin) {
  const tag = tagBytes(begin);
  const head = tag ? await read(tag, tag + begin.length) : begin;
  const info = find(head, "Info");
  const lame = find(head, "LAME");
  if (info < 0 || lame < 0) throw new Error("no Info frame in the head of this mp3");
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const frames = view.getUint32(info + 8);
  const delay = (head[lame + 21] << 4) | (head[lame + 22] >> 4);
  const padding = ((head[lame + 22] & 15) << 8) | head[lame + 23];
  const start = tag + frameBytes(head, 0);
  const length = frames * FRAME_SAMPLES - delay - padding;
  return { length, slice: slicer(read, { frames, start, skip: delay + DECODER_DELAY, bytes: (size - start) / frames }) };
}

function slicer(read, { frames, start, skip, bytes }) {
  return async (first, end, decode, signal) => {
    const from = Math.max(0, Math.floor((first + skip) / FRAME_SAMPLES) - PREROLL);
    const to = Math.min(frames, Math.floor((end + skip) / FRAME_SAMPLES) + 2);
    // Frames differ by a byte of padding, and the mean is exact: so a frame begins at most a byte from where it should.
    const guess = Math.max(start, Math.floor(start + from * bytes) - 2);
    const data = await read(guess, Math.ceil(start + to * bytes) + 2, signal);
    const begin = [0, 1, 2, 3, 4].find((at) => isFrame(data, at));
    if (begin === undefined) throw new Error("no frame where one should be in this mp3");
    const buffer = await decode(data.slice(begin).buffer);
    return cut(buffer, first + skip - from * FRAME_SAMPLES, end - first);
  };
}

/** Return the length of the ID3 tag that a file begins with, 0 if there is none. */
function tagBytes(head) {
  if (find(head.subarray(0, 3), "ID3") < 0) return 0;
  return 10 + head.subarray(6, 10).reduce((size, byte) => size * 128 + byte, 0);
}

/** Whether a frame begins at `at`, with another behind it. */
function isFrame(data, at) {
  const bytes = frameBytes(data, at);
  return bytes > 0 && (at + bytes + 4 > data.length || frameBytes(data, at + bytes) > 0);
}

/** Return the length of the frame at `at`, 0 if it is none of MPEG-1 Layer III at 44.1 kHz. */
function frameBytes(data, at) {
  if (data[at] !== 0xff || (data[at + 1] & 0xfe) !== 0xfa || (data[at + 2] & 0x0c) !== 0) return 0;
  const kbps = BIT_RATES[data[at + 2] >> 4] ?? 0;
  return kbps ? Math.floor((144_000 * kbps) / RATE) + ((data[at + 2] >> 1) & 1) : 0;
}

function find(data, word) {
  const codes = [...word].map((letter) => letter.charCodeAt(0));
  return data.findIndex((_, at) => codes.every((code, index) => data[at + index] === code));
}
