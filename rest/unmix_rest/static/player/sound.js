// The decoded sound of a few windows around the place that is heard: fetched ahead, and let go of behind. So a song
// of any length takes the memory of `AHEAD`, and of the windows at both ends of it and the one behind.

import { RATE } from "./units.js";

/** Samples that are wanted ahead of the one that is heard. */
const AHEAD = 12 * RATE;
/** Seconds until the first try again, twice as many until the next, and so on. */
const RETRY_SECONDS = 1;
const MOST_RETRY_SECONDS = 30;

/** Sends `change` when a window is there, or `problem` is another; `gone` when what there should be is not any more. */
export class Sound extends EventTarget {
  /** What keeps sound from coming, null if nothing does; it is tried again. */
  problem = null;
  #windows = new Map(); // by number, AudioBuffers by stem
  #wanted = [];
  #kept = new Set();
  #loading = null; // { index, abort }
  #failures = 0;
  #timer = 0;
  #decoded = Promise.resolve();
  #decoder = new OfflineAudioContext(2, 1, RATE); // decodes without a click of the user, and hears nothing

  /** @param {object} source what parts.js or stems.js make */
  constructor(source) {
    super();
    this.source = source;
    source.addEventListener("change", this.#load);
  }

  /** How long the song is, in samples. */
  get length() {
    return this.source.length;
  }

  /** Go on with another source of the same song; what failed is tried again no sooner than it would have been. */
  setSource(source) {
    this.source.removeEventListener("change", this.#load);
    this.#drop();
    this.source = source;
    source.addEventListener("change", this.#load);
    this.dispatchEvent(new Event("change"));
  }

  /** Return the window of a sample, with its first and the one behind its last sample; null if it is not there. */
  window(sample) {
    const index = this.#indexOf(sample);
    const buffers = this.#windows.get(index);
    return buffers ? { ...this.source.span(index), buffers } : null;
  }

  /** Whether a sample was made at all, so that it can be loaded. */
  isMade(sample) {
    return this.source.has(this.#indexOf(sample));
  }

  /** Have the windows from `sample` on loaded, as `loop` leads through them. */
  want(sample, loop) {
    this.#wanted = this.#upcoming(sample, loop);
    this.#kept = new Set([...this.#wanted, this.#wanted[0] - 1]); // who goes back a little finds it there
    for (const index of this.#windows.keys()) if (!this.#kept.has(index)) this.#windows.delete(index);
    if (this.#loading && !this.#wanted.includes(this.#loading.index)) this.#loading.abort.abort();
    this.#load();
  }

  /** Try at once what is to be tried again. */
  retry() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#load();
  }

  /** Let go of everything. */
  close() {
    this.source.removeEventListener("change", this.#load);
    clearTimeout(this.#timer);
    this.#drop();
  }

  /** Decode a file as a browser can: one at a time, as each takes twice its memory meanwhile. */
  decode = (data) => {
    const decoded = this.#decoded.then(() => this.#decoder.decodeAudioData(data));
    this.#decoded = decoded.catch(() => {});
    return decoded;
  };

  #indexOf(sample) {
    return Math.floor(Math.min(sample, this.length - 1) / this.source.windowLength);
  }

  #upcoming(sample, loop) {
    const indexes = [];
    let [at, ahead] = [sample, 0];
    while (ahead < AHEAD && at < this.length) {
      const index = this.#indexOf(at);
      if (indexes.includes(index)) {
        if (at === loop?.start) break; // the loop is all there
      } else {
        indexes.push(index);
      }
      const { end } = this.source.span(index);
      ahead += end - at;
      at = loop && at < loop.end && loop.end <= end ? loop.start : end;
    }
    return indexes;
  }

  #load = async () => {
    if (this.#loading || this.#timer) return;
    const index = this.#wanted.find((each) => !this.#windows.has(each) && this.source.has(each));
    if (index === undefined) return;
    const loading = { index, abort: new AbortController() };
    this.#loading = loading;
    const { source } = this;
    try {
      const stems = source.stems.map(async (stem) => [
        stem,
        await source.load(index, stem, this.decode, loading.abort.signal),
      ]);
      const buffers = new Map(await Promise.all(stems));
      if (loading.abort.signal.aborted) return;
      if (this.#kept.has(index)) this.#windows.set(index, buffers);
      this.#failures = 0;
      this.problem = null;
    } catch (error) {
      loading.abort.abort(); // the other stems of it
      if (error.name === "AbortError") return;
      this.#fail(error);
    } finally {
      if (this.#loading === loading) this.#loading = null;
      this.dispatchEvent(new Event("change"));
      this.#load();
    }
  };

  #fail(error) {
    const seconds = Math.min(RETRY_SECONDS * 2 ** this.#failures, MOST_RETRY_SECONDS);
    this.#failures += 1;
    this.problem = error;
    this.#timer = setTimeout(() => this.retry(), 1000 * seconds);
    if (error.status === 404) this.dispatchEvent(new Event("gone"));
  }

  #drop() {
    this.#loading?.abort.abort();
    this.#loading = null;
    this.#windows.clear();
    this.#wanted = [];
    this.#kept.clear();
  }
}
