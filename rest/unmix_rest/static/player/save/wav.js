// A wav file of two channels in 16 bits.

import { RATE } from "../units.js";

const CHANNELS = 2;
const SAMPLE_BYTES = 2;
const HEAD_BYTES = 44;

/** Makes a file of `length` samples out of pieces of them. */
export class WavWriter {
  constructor(length) {
    this.length = length;
  }

  /** Return what is before the samples. */
  head() {
    const bytes = this.length * CHANNELS * SAMPLE_BYTES;
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

  /** Return the samples of both sides in turn. */
  add(sides) {
    const samples = new Int16Array(CHANNELS * sides[0].length);
    sides.forEach((side, channel) => side.forEach((sample, index) => (samples[CHANNELS * index + channel] = sample)));
    return samples;
  }
}
