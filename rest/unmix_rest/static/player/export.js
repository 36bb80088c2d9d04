// The mix as it is set, as a wav file of 16 bits: each sample is the sum of the stems times their gains, rounded.
//
// Relied on: browsers make sample n of 16 bits n / 32768, but for Chromium, which divides positive ones by 32767. Which it
// was shows in the samples; so what was a whole number is one again.
//
// It is made window by window, each of which goes into a Blob of its own that the browser may keep on disk: so the memory it
// takes is that of one window, however long the song.

import { RATE } from "./units.js";

const CHANNELS = 2;
const SAMPLE_BYTES = 2;
const HEAD_BYTES = 44;
/** Of 16 bits. */
const LOWEST = -0x8000;
const HIGHEST = 0x7fff;

/**
 * Mix a song, and return the file and how many samples of it were beyond full scale, and clipped.
 *
 * @param {object} source what parts.js or stems.js make; all of it has been made
 * @param {import("./mix.js").Mix} mix
 * @param {{decode: Function, onProgress: (share: number) => void, signal: AbortSignal}} options
 */
export async function exportMix(source, mix, { decode, onProgress, signal }) {
  const gains = new Map(mix.stems.map((stem) => [stem, mix.gains(stem)]).filter(([, [left, right]]) => left || right));
  const pieces = [new Blob([wavHead(source.length)])];
  let clipped = 0;
  for (let start = 0, index = 0; start < source.length; index += 1) {
    signal.throwIfAborted();
    const { end } = source.span(index);
    const sums = [0, 1].map(() => new Float64Array(end - start));
    for (const [stem, sides] of gains) {
      const buffer = await source.load(index, stem, decode, signal);
      sums.forEach((sum, side) => add(sum, buffer.getChannelData(side), sides[side]));
    }
    const piece = rounded(sums);
    clipped += piece.clipped;
    pieces.push(new Blob([piece.samples]));
    start = end;
    onProgress(end / source.length);
  }
  return { file: new Blob(pieces, { type: "audio/wav" }), clipped };
}

/** Add samples to a sum that counts in steps of 16 bits. */
function add(sum, samples, gain) {
  const length = Math.min(sum.length, samples.length);
  const isWhole = (sample) => Math.abs(sample * HIGHEST - Math.round(sample * HIGHEST)) < 0.02;
  const upwards = samples.every((sample) => sample <= 0 || isWhole(sample)) ? HIGHEST : -LOWEST;
  for (let index = 0; index < length; index += 1) {
    const sample = samples[index];
    sum[index] += gain * sample * (sample > 0 ? upwards : -LOWEST);
  }
}

function rounded(sums) {
  const samples = new Int16Array(CHANNELS * sums[0].length);
  let clipped = 0;
  sums.forEach((sum, side) => {
    sum.forEach((value, index) => {
      const whole = Math.round(value);
      const inside = Math.min(Math.max(whole, LOWEST), HIGHEST);
      if (inside !== whole) clipped += 1;
      samples[CHANNELS * index + side] = inside;
    });
  });
  return { samples, clipped };
}

function wavHead(length) {
  const bytes = length * CHANNELS * SAMPLE_BYTES;
  const view = new DataView(new ArrayBuffer(HEAD_BYTES));
  const word = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, bytes + HEAD_BYTES - 8, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // integers
  view.setUint16(22, CHANNELS, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, RATE * CHANNELS * SAMPLE_BYTES, true);
  view.setUint16(32, CHANNELS * SAMPLE_BYTES, true);
  view.setUint16(34, 8 * SAMPLE_BYTES, true);
  word(36, "data");
  view.setUint32(40, bytes, true);
  return view;
}
