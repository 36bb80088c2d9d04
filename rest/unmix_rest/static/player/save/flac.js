// A flac of two channels in 16 bits: fixed predictors and Rice codes, the oldest part of the format, which every decoder knows.
// It is a little larger than what libFLAC makes, and 4 kB instead of 300. https://www.rfc-editor.org/rfc/rfc9639
//
// What it cannot say is the MD5 of all samples, which is left out as the format allows.

import { RATE } from "../units.js";
import { Bits, crc } from "./bits.js";

const BLOCK = 4096;
const BITS = 16;
/** What a predictor of each order leaves of a sample: these times it and those before it. */
const BINOMIALS = [[1], [1, -1], [1, -2, 1], [1, -3, 3, -1], [1, -4, 6, -4, 1]];
const MOST_ORDER = BINOMIALS.length - 1;
/** A full block has two to the power of this partitions, each with a parameter of its own. */
const DEPTH = 5;
const MOST_PARAMETER = 14; // 15 means something else
/** How the two channels are told, by the format's number for it: as they are, or one and the difference. */
const PAIRS = [[1, "left", "right"], [8, "left", "side"], [9, "side", "right"], [10, "middle", "side"]];

/** Makes a file of `length` samples out of pieces of them. */
export class FlacWriter {
  #kept = [new Int16Array(0), new Int16Array(0)];
  #frames = 0;

  constructor(length) {
    this.length = length;
  }

  /** Return what is before the first frame. */
  head() {
    const bits = new Bits(42);
    bits.put(0x664c6143, 32); // fLaC
    bits.put(0x80000022, 32); // the last block of the head, 34 bytes
    for (const [value, count] of [[BLOCK, 16], [BLOCK, 16], [0, 24], [0, 24], [RATE, 20], [1, 3], [BITS - 1, 5]]) bits.put(value, count);
    bits.put(Math.floor(this.length / 2 ** 32), 4);
    bits.put(this.length >>> 0, 32);
    return bits.bytes(42);
  }

  /** Return the frames that are full with these samples of both sides, and behind the last ones the rest. */
  add(sides, isLast) {
    const all = sides.map((samples, side) => joined(this.#kept[side], samples));
    const frames = [];
    let at = 0;
    while (all[0].length - at >= BLOCK || (isLast && at < all[0].length)) {
      frames.push(frame(all.map((samples) => samples.subarray(at, at + BLOCK)), this.#frames++));
      at += BLOCK;
    }
    this.#kept = all.map((samples) => samples.slice(at));
    return new Blob(frames);
  }
}

function joined(one, other) {
  const made = new Int16Array(one.length + other.length);
  made.set(one);
  made.set(other, one.length);
  return made;
}

function frame([left, right], number) {
  const { length } = left;
  const told = { left: planOf(left, BITS), right: planOf(right, BITS) };
  told.side = planOf(Int32Array.from(left, (sample, index) => sample - right[index]), BITS + 1);
  told.middle = planOf(Int32Array.from(left, (sample, index) => (sample + right[index]) >> 1), BITS);
  const cost = ([, one, other]) => told[one].cost + told[other].cost;
  const [kind, ...pair] = PAIRS.reduce((best, each) => (cost(each) < cost(best) ? each : best));
  const bits = new Bits(256 + 6 * length); // 24 bits a sample are more than any parameter leads to
  const sizeCode = length === BLOCK ? 12 : 7;
  for (const [value, count] of [[0xfff8, 16], [sizeCode, 4], [9, 4], [kind, 4], [4, 3], [0, 1]]) bits.put(value, count);
  for (const byte of coded(number)) bits.put(byte, 8);
  if (sizeCode === 7) bits.put(length - 1, 16);
  bits.put(crc(bits.bytes(), 8, 0x07), 8);
  for (const each of pair) tell(bits, told[each]);
  bits.align();
  bits.put(crc(bits.bytes(), 16, 0x8005), 16);
  return bits.bytes();
}

/** Return how a channel of `width` bits is told: with which predictor and parameters, and how many bits that takes at most. */
function planOf(samples, width) {
  const order = orderOf(samples);
  const folded = new Uint32Array(samples.length); // what the predictor leaves, without signs
  for (let at = order; at < samples.length; at += 1) {
    let rest = 0;
    for (let back = 0; back <= order; back += 1) rest += BINOMIALS[order][back] * samples[at - back];
    folded[at] = (rest << 1) ^ (rest >> 31);
  }
  const depth = samples.length === BLOCK ? DEPTH : 0;
  const size = samples.length >> depth;
  let cost = order * width;
  const parts = Array.from({ length: 2 ** depth }, (_, index) => {
    const values = folded.subarray(index ? index * size : order, (index + 1) * size);
    const sum = values.reduce((all, value) => all + value, 0);
    const parameter = Math.min(MOST_PARAMETER, Math.max(0, Math.floor(Math.log2(sum / values.length || 1))));
    cost += values.length * (parameter + 1) + sum / 2 ** parameter;
    return { values, parameter };
  });
  return { warmUp: samples.subarray(0, order), width, depth, parts, cost };
}

/** Return the number of samples before one that say the most about it. */
function orderOf(samples) {
  const sums = BINOMIALS.map(() => 0);
  const before = BINOMIALS.map(() => 0); // of each order, the last difference
  samples.forEach((sample, at) => {
    let difference = sample;
    for (let order = 0; order < sums.length; order += 1) {
      if (at >= MOST_ORDER) sums[order] += Math.abs(difference);
      const next = difference - before[order];
      before[order] = difference;
      difference = next;
    }
  });
  return sums.indexOf(Math.min(...sums));
}

function tell(bits, { warmUp, width, depth, parts }) {
  bits.put((8 + warmUp.length) << 1, 8);
  for (const sample of warmUp) bits.put(sample, width);
  bits.put(depth, 6);
  for (const { values, parameter } of parts) {
    bits.put(parameter, 4);
    for (const value of values) {
      bits.skip(value >>> parameter);
      bits.put(1, 1);
      bits.put(value, parameter);
    }
  }
}

/** Return a number in bytes as UTF-8 would have it, which frames are numbered by: up to 21 bits, 54 hours. */
function coded(number) {
  if (number < 0x80) return [number];
  const more = number < 0x800 ? 1 : number < 0x10000 ? 2 : 3;
  const rest = Array.from({ length: more }, (_, at) => 0x80 | ((number >> (6 * (more - 1 - at))) & 0x3f));
  return [((0xff00 >> (more + 1)) & 0xff) | (number >> (6 * more)), ...rest];
}
