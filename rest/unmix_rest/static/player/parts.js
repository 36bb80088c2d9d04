// A song by its parts: stretches of all stems, each a FLAC of exactly its samples, listed while they are made and for
// a day after. Parts may come in any order.
//
// Relied on: part k begins at sample k · length, and decodeAudioData gives exactly the samples of a FLAC at 44.1 kHz.

import { RATE } from "./units.js";

/** Parts that are asked for at once. */
const PAGE = 50;

/** Sends `change` when more parts are there, with what to draw of them. */
export class PartsSource extends EventTarget {
  stems = [];
  windowLength = 0;
  length = 0;
  #count = 0;
  #urls = new Map(); // of each part, by stem
  #listing = null;

  /**
   * @param {{json: Function, fetch: Function}} api
   * @param {import("./peaks.js").Peaks} peaks takes what is to be drawn
   */
  constructor(api, peaks) {
    super();
    this.api = api;
    this.peaks = peaks;
  }

  /** Ask for the parts that are not known yet; returns whether any part is known. */
  async refresh(job) {
    await this.#listing?.catch(() => {}); // whoever asked for that hears of it
    this.#listing = this.#list(job);
    try {
      await this.#listing;
    } finally {
      this.#listing = null;
    }
    return this.#urls.size > 0;
  }

  /** Whether part `index` was made. */
  has(index) {
    return this.#urls.has(index);
  }

  /** How many parts are known here. */
  get known() {
    return this.#urls.size;
  }

  /** Whether all parts were made. */
  get isWhole() {
    return this.#urls.size === this.#count;
  }

  /** Return the first sample of a part, and the one behind its last. */
  span(index) {
    const start = index * this.windowLength;
    return { start, end: Math.min(start + this.windowLength, this.length) };
  }

  /** Return the sound of a stem of a part as an AudioBuffer. */
  async load(index, stem, decode, signal) {
    const answer = await this.api.fetch(this.#urls.get(index).get(stem), { signal });
    return decode(await answer.arrayBuffer());
  }

  async #list(job) {
    let offset = this.#firstUnknown();
    for (;;) {
      const told = await this.api.json(`${job.parts.url}?offset=${offset}&limit=${PAGE}`);
      if (!told.count) return;
      this.#learn(told, job);
      if (told.parts.length < PAGE) return;
      offset = told.parts.at(-1).index + 1;
    }
  }

  #firstUnknown() {
    let index = 0;
    while (this.#urls.has(index)) index += 1;
    return index;
  }

  #learn(told, job) {
    this.windowLength = told.length;
    this.#count = told.count;
    // The length is known to the sample when the last part is; until then it is as the song was measured.
    this.length ||= Math.max(Math.round((job.duration_seconds ?? 0) * RATE), (told.count - 1) * told.length + 1);
    for (const part of told.parts) {
      this.#urls.set(part.index, new Map(Object.entries(part.stems).map(([stem, { url }]) => [stem, url])));
      if (part.index === this.#count - 1) this.length = part.start + part.samples;
      if (!this.stems.length) this.stems = inOrder(Object.keys(part.stems));
    }
    this.peaks.setLength(this.length);
    for (const part of told.parts) this.peaks.addPart(part, told.samples_per_pixel);
    this.dispatchEvent(new Event("change"));
  }
}

/** Stems as they are shown. */
const SOURCES = ["vocals", "drums", "bass", "guitar", "piano", "other"];
const ORDER = [...SOURCES, "instrumental", ...SOURCES.map((source) => `no_${source}`)];

/** Return names of stems in the order in which they are shown. */
export function inOrder(stems) {
  const place = (stem) => (ORDER.includes(stem) ? ORDER.indexOf(stem) : ORDER.length);
  return stems.toSorted((one, other) => place(one) - place(other));
}
