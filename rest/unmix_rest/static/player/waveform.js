// The song drawn: a lane for each stem, the place that is heard, and the loop. A click seeks, a drag selects a loop.
//
// The canvas is drawn again only when there is other sound, another mix, another size or another colour; the place and the loop are
// elements of their own above it, moved without drawing.

import { element } from "./dom.js";
import { RATE, clamp, clock } from "./units.js";

/** Pixels that a finger or a mouse may move and still clicks. */
const CLICK_PX = 6;
/** Height of a lane, in CSS pixels. */
const LANE_PX = 44;
/** The least that is worth repeating, in samples. */
export const LEAST_LOOP = Math.round(0.25 * RATE);

export class Waveform {
  #canvas = element("canvas", { class: "player-canvas", "aria-hidden": "true" });
  #head = element("div", { class: "player-head" });
  #range = element("div", { class: "player-range", hidden: true });
  #drawing = 0;
  #watching = new AbortController();
  #resized = new ResizeObserver(() => this.#draw());
  #dragged = null; // { from, to } in samples

  /**
   * @param {{peaks: import("./peaks.js").Peaks, mix: import("./mix.js").Mix, texts: Function,
   *   onSeek: (sample: number) => void, onLoop: (start: number, end: number) => void}} options
   */
  constructor({ peaks, mix, texts, onSeek, onLoop }) {
    Object.assign(this, { peaks, mix, texts, onSeek, onLoop });
    this.element = element(
      "div",
      { class: "player-wave", role: "slider", tabindex: 0, "aria-label": texts("player.place"), "aria-valuemin": 0 },
      this.#canvas,
      this.#range,
      this.#head,
    );
    this.#canvas.style.height = `${LANE_PX * mix.stems.length}px`;
    const { signal } = this.#watching;
    for (const source of [peaks, mix]) source.addEventListener("change", this.#draw, { signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.#draw, { signal });
    this.element.addEventListener("pointerdown", this.#press);
    this.#resized.observe(this.#canvas);
  }

  /** Show the sample that is heard, of which song, and the loop. */
  show(place, loop) {
    const { length } = this.peaks;
    const share = (sample) => (length ? clamp(sample / length, 0, 1) : 0);
    this.#head.style.left = `${100 * share(place)}%`;
    const range = this.#dragged ? { start: Math.min(...this.#dragged), end: Math.max(...this.#dragged) } : loop;
    this.#range.hidden = !range;
    if (range) {
      this.#range.style.left = `${100 * share(range.start)}%`;
      this.#range.style.width = `${100 * (share(range.end) - share(range.start))}%`;
    }
    const now = Math.floor(place / RATE);
    if (this.element.ariaValueNow === String(now)) return;
    this.element.ariaValueNow = String(now);
    this.element.ariaValueMax = String(Math.floor(length / RATE));
    this.element.ariaValueText = this.texts("player.place.of", { place: clock(place), length: clock(length) });
  }

  /** Stop looking at what changes. */
  close() {
    this.#watching.abort();
    this.#resized.disconnect();
    cancelAnimationFrame(this.#drawing);
  }

  #draw = () => {
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#paint();
    });
  };

  #paint() {
    const { peaks, mix } = this;
    const canvas = this.#canvas;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((pixels) => Math.round(pixels * scale));
    if (!width || !peaks.length) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const ink = canvas.getContext("2d");
    ink.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.element);
    const lane = height / mix.stems.length;
    mix.stems.forEach((stem, index) => {
      const middle = lane * (index + 0.5);
      ink.fillStyle = style.getPropertyValue(`--stem-${stem}`).trim() || style.color;
      const strength = mix.isHeard(stem) ? 1 : 0.25;
      for (let x = 0; x < width; x += 1) {
        const range = peaks.range(stem, (x / width) * peaks.length, ((x + 1) / width) * peaks.length);
        const [lowest, highest] = range ?? [0, 0];
        const tall = Math.max(scale, ((highest - lowest) / 2) * lane * 0.94);
        ink.globalAlpha = range ? strength : 0.2;
        ink.fillRect(x, middle - (highest / 2) * lane * 0.94, 1, tall);
      }
    });
  }

  #press = (event) => {
    if (event.button || !this.peaks.length) return;
    const from = this.#sampleAt(event);
    const begin = event.clientX;
    const over = new AbortController();
    const { signal } = over;
    this.element.setPointerCapture(event.pointerId);
    this.element.addEventListener(
      "pointermove",
      (moved) => {
        if (this.#dragged || Math.abs(moved.clientX - begin) > CLICK_PX) this.#dragged = [from, this.#sampleAt(moved)];
      },
      { signal },
    );
    const end = (isMeant) => {
      over.abort();
      const dragged = this.#dragged;
      this.#dragged = null;
      if (!isMeant) return;
      const [start, last] = dragged ? [Math.min(...dragged), Math.max(...dragged)] : [from, from];
      if (last - start >= LEAST_LOOP) this.onLoop(start, last);
      else this.onSeek(start);
    };
    this.element.addEventListener("pointerup", () => end(true), { signal });
    this.element.addEventListener("pointercancel", () => end(false), { signal }); // the page is scrolled
  };

  #sampleAt(event) {
    const { left, width } = this.element.getBoundingClientRect();
    return Math.round(clamp((event.clientX - left) / width, 0, 1) * this.peaks.length);
  }
}
