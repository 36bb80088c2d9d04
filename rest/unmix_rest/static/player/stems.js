// A song by its finished stems: for songs that have no parts, or none any more. Short ones are decoded whole, long ones
// in windows of which only the bytes that they need are fetched (`Range`); files/ knows where those are in each format.
//
// Relied on: all stems of a job come from one encoder with one setting, so that whatever a decoder adds, it adds to all.

import { inOrder } from "./parts.js";
import { cut } from "./files/cut.js";
import * as flac from "./files/flac.js";
import * as mp3 from "./files/mp3.js";
import * as wav from "./files/wav.js";
import { RATE } from "./units.js";

const FORMATS = { flac, mp3, wav };

/** Whether the finished stems of a job can be played here. */
export const plays = (job) => job.options?.format in FORMATS;

/** Samples of a window of a long song. */
const WINDOW = 10 * RATE;
/** Songs of up to this many samples are one window. */
const SHORT = 60 * RATE;
/** Bytes that are enough to know a file by. */
const HEAD_BYTES = 16_384;

/** Has all there is from the beginning; `refresh` opens the files. */
export class StemsSource extends EventTarget {
  stems = [];
  length = 0;
  windowLength = 0;
  #files = new Map();

  /** @param {{fetch: Function}} api */
  constructor(api) {
    super();
    this.api = api;
  }

  /** Open the stems of a job that is done; returns whether there are any. */
  async refresh(job) {
    if (this.length || !plays(job)) return this.length > 0;
    const format = FORMATS[job.options.format];
    const stems = inOrder(Object.keys(job.stems));
    const opened = stems.map(async (stem) => {
      const { url, size_bytes: size } = job.stems[stem];
      const read = (first, end, signal) => this.#read(url, first, Math.min(end, size), signal);
      return [stem, { url, ...(await format.open(read, size, await read(0, HEAD_BYTES))) }];
    });
    this.#files = new Map(await Promise.all(opened));
    this.stems = stems;
    this.length = Math.max(0, ...[...this.#files.values()].map(({ length }) => length));
    this.windowLength = this.length > SHORT ? WINDOW : this.length;
    return this.length > 0;
  }

  /** All of a finished stem is there. */
  has() {
    return true;
  }

  get isWhole() {
    return true;
  }

  /** Return the first sample of a window, and the one behind its last. */
  span(index) {
    const start = index * this.windowLength;
    return { start, end: Math.min(start + this.windowLength, this.length) };
  }

  /** Return the sound of a stem in a window as an AudioBuffer. */
  async load(index, stem, decode, signal) {
    const { start, end } = this.span(index);
    const file = this.#files.get(stem);
    if (this.windowLength < this.length) return file.slice(start, end, decode, signal);
    const answer = await this.api.fetch(file.url, { signal });
    const buffer = await decode(await answer.arrayBuffer());
    return buffer.length === end ? buffer : cut(buffer, 0, end);
  }

  async #read(url, first, end, signal) {
    const answer = await this.api.fetch(url, { headers: { Range: `bytes=${first}-${end - 1}` }, signal });
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return answer.status === 206 ? bytes : bytes.subarray(first, end); // some proxy knows no ranges
  }
}
