// What to draw of the stems, without their sound: the lowest and the highest sample of each pixel, from -128 to 127. It comes
// with the parts, pixel by pixel on one grid that begins with the song, or of the whole song at once.

/** Sends `change` when there is more to draw. */
export class Peaks extends EventTarget {
  /** Of the whole song, in samples; 0 while it is not known. */
  length = 0;
  /** When beats are, in samples; empty if nobody knows. */
  beats = [];
  #samplesPerPixel = 0;
  #stems = new Map(); // Int8Array of pairs
  #known = new Uint8Array(0); // by pixel
  #isWhole = false;

  /** Say how long the song is. */
  setLength(length) {
    this.length = length;
  }

  /** Add what a part says of itself. */
  addPart(part, samplesPerPixel) {
    if (this.#isWhole) return;
    this.#samplesPerPixel = samplesPerPixel;
    const first = Math.floor(part.start / samplesPerPixel);
    for (const [stem, { peaks }] of Object.entries(part.stems)) {
      const pairs = this.#pairs(stem, Math.ceil(this.length / samplesPerPixel));
      for (let index = 0; index < peaks.length; index += 2) {
        const at = 2 * first + index;
        // The pixel in which two parts meet is the lower and the higher of both.
        pairs[at] = Math.min(pairs[at], peaks[index]);
        pairs[at + 1] = Math.max(pairs[at + 1], peaks[index + 1]);
      }
      this.#known.fill(1, first, first + peaks.length / 2);
    }
    this.dispatchEvent(new Event("change"));
  }

  /** Take what a finished job has of all its length. */
  setWhole(told, rate) {
    this.#isWhole = true;
    this.#samplesPerPixel = told.samples_per_pixel;
    this.#stems = new Map(Object.entries(told.stems).map(([stem, values]) => [stem, Int8Array.from(values)]));
    this.#known = new Uint8Array(Math.max(...Object.values(told.stems).map((values) => values.length / 2))).fill(1);
    this.beats = (told.beats ?? []).map((seconds) => Math.round(seconds * rate));
    this.dispatchEvent(new Event("change"));
  }

  /** Return the lowest and the highest sample of a stem in a stretch, from -1 to 1; null where nothing is known. */
  range(stem, start, end) {
    const pairs = this.#stems.get(stem);
    const first = Math.floor(start / this.#samplesPerPixel);
    if (!pairs || !this.#known[first]) return null;
    const last = Math.max(first, Math.ceil(end / this.#samplesPerPixel) - 1);
    let [lowest, highest] = [127, -128];
    for (let index = first; index <= last && this.#known[index]; index += 1) {
      lowest = Math.min(lowest, pairs[2 * index]);
      highest = Math.max(highest, pairs[2 * index + 1]);
    }
    return [lowest / 128, (highest + 1) / 128];
  }

  #pairs(stem, pixels) {
    let pairs = this.#stems.get(stem);
    if (!pairs || pairs.length < 2 * pixels) {
      const grown = new Int8Array(2 * pixels);
      for (let index = 0; index < grown.length; index += 2) [grown[index], grown[index + 1]] = [127, -128];
      if (pairs) grown.set(pairs);
      pairs = grown;
      this.#stems.set(stem, pairs);
      if (this.#known.length < pixels) {
        const known = new Uint8Array(pixels);
        known.set(this.#known);
        this.#known = known;
      }
    }
    return pairs;
  }
}
