// Another speed or pitch for a file: the code of signalsmith-stretch as the player has it, but asked directly, for as many samples
// as there are, and without what comes late cut off. Only for workers: it takes the place of what runs audio nodes there.
//
// Here the stretch changes the speed itself, where the player's sources do and it takes back what that does to the pitch:
// the same sound, without a detour.

import { RATE, clamp } from "../units.js";
import { mayRun } from "./stretch.js";

const SIDES = 2;
/** Samples that are made at once. */
const STEP = 1024;
/** What a whole sample is in the sums: steps of 16 bits. */
const SCALE = 0x8000;

/** Takes `length` samples and gives as many as they are at another speed. */
export class FileStretch {
  #code;
  #taken = 0;
  #made = 0;
  #waiting = Array.from({ length: SIDES }, () => new Float32Array(0));

  static async load({ length, speed, semitones }) {
    return new FileStretch(await loadCode(), { length, speed, semitones });
  }

  constructor(code, { length, speed, semitones }) {
    this.#code = code;
    this.speed = speed;
    /** How many samples come out in the end. */
    this.length = Math.max(1, Math.round(length / speed));
    this.late = Math.round(code._outputLatency() + code._inputLatency() / speed);
    this.most = Math.ceil(STEP * speed) + 1; // samples that go in at once
    this.input = code._setBuffers(SIDES, Math.max(STEP, this.most));
    code._setTransposeSemitones(semitones, 0);
  }

  /** Return the sides of what is made of these, with all that is still inside behind the last ones. */
  add(sums, isLast) {
    this.#waiting = this.#waiting.map((kept, side) => joined(kept, sums[side]));
    const made = [[], []];
    const all = this.late + this.length;
    while (this.#made < all) {
      const count = Math.min(STEP, all - this.#made);
      const wanted = Math.round((this.#made + count) * this.speed) - this.#taken;
      if (wanted > this.#waiting[0].length && !isLast) break;
      this.#process(wanted, count).forEach((samples, side) => made[side].push(samples.subarray(this.#skipped(count))));
      this.#taken += wanted;
      this.#made += count;
    }
    return made.map((pieces) => joined(...pieces));
  }

  /** Return how many of the next `count` samples are of before the song. */
  #skipped(count) {
    return clamp(this.late - this.#made, 0, count);
  }

  /** Put the next `wanted` samples in, silence once there are none, and return the next `count`. */
  #process(wanted, count) {
    const width = Math.max(STEP, this.most);
    const side = (number, size) => new Float32Array(this.#code.HEAP8.buffer, this.input + 4 * width * number, size);
    this.#waiting = this.#waiting.map((kept, number) => {
      const room = side(number, wanted).fill(0);
      kept.subarray(0, wanted).forEach((value, index) => (room[index] = value / SCALE));
      return kept.subarray(wanted);
    });
    this.#code._process(wanted, count);
    return [0, 1].map((number) => side(SIDES + number, count).map((value) => value * SCALE));
  }
}

function joined(...pieces) {
  const made = new Float32Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    made.set(piece, at);
    at += piece.length;
  }
  return made;
}

/** Load the code of the node, which gives itself only to what runs audio nodes. */
async function loadCode() {
  await mayRun();
  let Node = null;
  let ready = null;
  const isReady = new Promise((resolve) => (ready = resolve));
  Object.assign(globalThis, {
    sampleRate: RATE,
    currentTime: 0,
    AudioWorkletProcessor: class {
      port = { postMessage: ready };
    },
    registerProcessor: (_, made) => (Node = made),
  });
  await import("./signalsmith-stretch.js");
  const node = new Node({ numberOfOutputs: 1, outputChannelCount: [SIDES] });
  await isReady;
  return node.wasmModule;
}
