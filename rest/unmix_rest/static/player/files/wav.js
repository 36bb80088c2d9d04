// Slices of a wav file: its samples lie where one can count, so nothing has to be searched or decoded.

import { RATE } from "../units.js";

const FLOAT = 3;

/** Read the head of a file, and return its `length` in samples and what makes a `slice` of it. */
export async function open(read, size, head) {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const facts = {};
  for (let at = 12; at + 8 <= head.length; ) {
    const name = String.fromCharCode(...head.subarray(at, at + 4));
    const bytes = view.getUint32(at + 4, true);
    if (name === "fmt ") {
      Object.assign(facts, { kind: view.getUint16(at + 8, true), bits: view.getUint16(at + 22, true) });
      facts.channels = view.getUint16(at + 10, true);
      if (facts.kind === 0xfffe) facts.kind = view.getUint16(at + 32, true); // the format proper follows
    }
    if (name === "data") {
      const frameBytes = (facts.channels * facts.bits) / 8;
      const there = Math.min(size - at - 8, bytes === 0xffffffff ? Infinity : bytes); // a file of more than 4 GiB
      return new WavFile(read, { ...facts, start: at + 8, frameBytes, length: Math.floor(there / frameBytes) });
    }
    at += 8 + bytes + (bytes % 2);
  }
  throw new Error("no samples in the head of this wav file");
}

class WavFile {
  constructor(read, facts) {
    this.read = read;
    Object.assign(this, facts);
    this.slice = async (start, end, _decode, signal) => {
      const bytes = await this.read(this.start + start * this.frameBytes, this.start + end * this.frameBytes, signal);
      return this.#buffer(bytes, end - start);
    };
  }

  #buffer(bytes, length) {
    const buffer = new AudioBuffer({ length, numberOfChannels: 2, sampleRate: RATE });
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const sample = this.#reader(view);
    const samples = Math.min(length, Math.floor(bytes.length / this.frameBytes));
    for (const side of [0, 1]) {
      const channel = buffer.getChannelData(side);
      const offset = (Math.min(side, this.channels - 1) * this.bits) / 8;
      for (let index = 0; index < samples; index += 1) channel[index] = sample(index * this.frameBytes + offset);
    }
    return buffer;
  }

  #reader(view) {
    if (this.kind === FLOAT) return (at) => view.getFloat32(at, true);
    if (this.bits === 16) return (at) => view.getInt16(at, true) / 0x8000;
    return (at) => (view.getUint8(at) | (view.getInt16(at + 1, true) << 8)) / 0x800000; // 24 bits
  }
}
