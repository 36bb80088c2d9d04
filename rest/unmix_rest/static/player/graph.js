// The one AudioContext of a player, and what its sound goes through:
//
//     sources of a stem ─▶ split ─▶ left, right gain ─▶ merge ─┬▶ bus ─▶ (stretch) ─▶ out
//                                                              └▶ meter
//
// At gains of 1 and without stretch every sample goes through as it is. Sources of all stems start at one frame of the
// context's clock, which runs at the rate of the stems: so the stems are in step to the sample.

import { RATE } from "./units.js";

/** Seconds in which a gain changes: long enough not to click. */
const RAMP_SECONDS = 0.01;
/** Samples that a meter looks at. */
const METER_SAMPLES = 1024;

export class Graph {
  #stems = new Map();
  #seen = new Float32Array(METER_SAMPLES);
  #stretch = null;

  /** @param {import("./mix.js").Mix} mix */
  constructor(mix) {
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: "balanced" });
    this.bus = this.context.createGain();
    this.bus.connect(this.context.destination);
    for (const stem of mix.stems) this.#stems.set(stem, this.#strip());
    this.#mix = mix;
    this.#apply(0);
    mix.addEventListener("change", this.#changed);
  }

  #mix;
  #changed = () => this.#apply(RAMP_SECONDS);

  /** The frame that the context renders next, as far as is known here. */
  get frame() {
    return Math.ceil(this.context.currentTime * RATE);
  }

  /** Frames that sound is late by what is between the bus and the ear that we know of. */
  get delay() {
    return this.#stretch ? this.#stretch.delay : 0;
  }

  /** Let the clock run; a browser allows it only after a click or a key. */
  resume() {
    return this.context.resume();
  }

  /** Stop the clock, which costs battery, until `resume`. */
  suspend() {
    return this.context.suspend();
  }

  /**
   * Have a part of `buffer` heard from `frame` on, and return what can be stopped.
   *
   * @param {string} stem
   * @param {AudioBuffer} buffer
   * @param {{frame: number, offset: number, speed: number}} place `offset` in samples of the buffer
   */
  start(stem, buffer, { frame, offset, speed }) {
    const source = new AudioBufferSourceNode(this.context, { buffer, playbackRate: speed });
    source.connect(this.#stems.get(stem).entry);
    source.start(frame / RATE, offset / RATE);
    return source;
  }

  /** Lead the mix through `stretch`, a node with its `delay` in frames, or straight out (null); whether it was not. */
  through(stretch) {
    if (stretch === this.#stretch) return false;
    this.bus.disconnect();
    this.#stretch?.node.disconnect();
    this.#stretch = stretch;
    if (stretch) {
      this.bus.connect(stretch.node);
      stretch.node.connect(this.context.destination);
    } else {
      this.bus.connect(this.context.destination);
    }
    return true;
  }

  /** Return how loud a stem is heard at the moment, from 0 to about 1. */
  level(stem) {
    this.#stems.get(stem).meter.getFloatTimeDomainData(this.#seen);
    return this.#seen.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  }

  /** End everything. */
  close() {
    this.#mix.removeEventListener("change", this.#changed);
    return this.context.close();
  }

  #strip() {
    const { context } = this;
    const entry = context.createChannelSplitter(2);
    const [left, right] = [context.createGain(), context.createGain()];
    const merged = context.createChannelMerger(2);
    const meter = new AnalyserNode(context, { fftSize: METER_SAMPLES });
    entry.connect(left, 0).connect(merged, 0, 0);
    entry.connect(right, 1).connect(merged, 0, 1);
    merged.connect(this.bus);
    merged.connect(meter);
    return { entry, gains: [left.gain, right.gain], meter };
  }

  #apply(seconds) {
    const now = this.context.currentTime;
    for (const [stem, { gains }] of this.#stems) {
      this.#mix.gains(stem).forEach((value, side) => {
        const gain = gains[side];
        if (!seconds) {
          gain.value = value;
          return;
        }
        gain.cancelScheduledValues(now);
        gain.setValueAtTime(gain.value, now);
        gain.linearRampToValueAtTime(value, now + seconds);
      });
    }
  }
}
