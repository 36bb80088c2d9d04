// Slices of a wav file: its samples lie where one can count, so nothing has to be searched, and decoded only to have it
// resampled.

import { clockOf } from "./clock.js";
import { cut } from "./cut.js";
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
      facts.rate = view.getUint32(at + 12, true);
      if (facts.kind === 0xfffe) facts.kind = view.getUint16(at + 32, true); // the format proper follows
    }
    if (name === "data") {
      const frameBytes = (facts.channels * facts.bits) / 8;
      const there = Math.min(size - at - 8, bytes === 0xffffffff ? Infinity : bytes); // a file of more than 4 GiB
      const samples = Math.floor(there / frameBytes);
      return new WavFile(read, { ...facts, head: head.slice(0, at + 8), frameBytes, samples });
    }
    at += 8 + bytes + (bytes % 2);
  }
  throw new Error("no samples in the head of this wav file");
}

class WavFile {
  constructor(read, facts) {
    this.read = read;
    Object.assign(this, facts);
    this.clock = clockOf(this.rate);
    this.length = Math.ceil(this.clock.ours(this.samples));
    this.slice = this.rate === RATE ? this.#plain : this.#resampled;
  }

  #plain = async (start, end, _decode, signal) => this.#buffer(await this.#bytes(start, end, signal), end - start);

  #resampled = async (start, end, decode, signal) => {
    const { first, last } = this.clock.reach(start, end);
    const from = this.clock.shared * Math.floor(first / this.clock.shared);
    const bytes = await this.#bytes(from, Math.min(Math.ceil(last), this.samples), signal);
    return cut(await decode(this.#file(bytes)), start - Math.round(this.clock.ours(from)), end - start);
  };

  #bytes(from, to, signal) {
    const start = this.head.length;
    return this.read(start + from * this.frameBytes, start + to * this.frameBytes, signal);
  }

  /** Return a file of nothing but these samples. */
  #file(bytes) {
    const file = new Uint8Array(this.head.length + bytes.length);
    file.set(this.head);
    file.set(bytes, this.head.length);
    file.set([0x52, 0x49, 0x46, 0x46]); // "RIFF", also where the file itself is larger than that can say
    const view = new DataView(file.buffer);
    view.setUint32(4, file.length - 8, true);
    view.setUint32(this.head.length - 4, bytes.length, true);
    return file.buffer;
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
