// How the stems are mixed: what is muted, soloed, how loud and where. Values only; graph.js and export.js apply them.

import { clamp } from "./units.js";

/** The loudest that a stem can be set, as a factor. */
export const LOUDEST = 1.5;

/** Whether a stem is all others but one together: heard beside them it would double them. */
const isTogether = (stem) => stem === "instrumental" || stem.startsWith("no_");

/** Sends `change` whenever something sounds otherwise than before. */
export class Mix extends EventTarget {
  #stems = new Map();

  /** @param {string[]} stems names, in the order in which they are shown */
  constructor(stems) {
    super();
    this.stems = stems;
    this.#reset();
  }

  /** What is set of a stem: `muted`, `soloed`, `volume` from 0 to `LOUDEST`, `pan` from -1 (left) to 1. */
  of(stem) {
    return this.#stems.get(stem);
  }

  /** Change something of a stem. */
  set(stem, changes) {
    const now = { ...this.of(stem), ...changes };
    this.#stems.set(stem, { ...now, volume: clamp(now.volume, 0, LOUDEST), pan: clamp(now.pan, -1, 1) });
    this.dispatchEvent(new Event("change"));
  }

  /** Have all stems heard as they are, but for those of `muted`. */
  reset(muted = []) {
    this.#reset(muted);
    this.dispatchEvent(new Event("change"));
  }

  /** Whether all stems are heard but those of `muted`, however loud. */
  hasOnlyMuted(muted) {
    const silent = this.#silent(muted);
    return this.stems.every((stem) => !this.of(stem).soloed && this.of(stem).muted === silent.includes(stem));
  }

  /** Whether a stem can be heard at all. */
  isHeard(stem) {
    const { muted, soloed } = this.of(stem);
    return this.stems.some((each) => this.of(each).soloed) ? soloed : !muted;
  }

  /** Return what the left and the right channel of a stem are multiplied by: the pan turns down the other side. */
  gains(stem) {
    const { volume, pan } = this.of(stem);
    const gain = this.isHeard(stem) ? volume : 0;
    return [gain * Math.min(1, 1 - pan), gain * Math.min(1, 1 + pan)];
  }

  #reset(muted = []) {
    const silent = this.#silent(muted);
    for (const stem of this.stems) this.#stems.set(stem, { muted: silent.includes(stem), soloed: false, volume: 1, pan: 0 });
  }

  #silent(muted) {
    const together = this.stems.filter(isTogether);
    if (together.length === 1 && this.stems.length === 2) return muted; // one and all others are the song
    return [...muted, ...(together.length < this.stems.length ? together : together.slice(1))];
  }
}
