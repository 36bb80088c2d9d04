// Play, wait, pause, seek, loop, speed: which sample of the song is heard at which frame of the context's clock.
//
// What was scheduled is a list of segments, each of one window of sound, back to back. Whatever changes while the song
// plays cuts that list at a frame a little ahead and goes on from there, so that nothing is lost or heard twice. A window that
// is not there yet makes the transport wait at its edge; it goes on by itself.

import { RATE, clamp } from "./units.js";

/** Frames between deciding on a sound and its begin: the browser has to take it over first. */
const LEAD = Math.round(0.1 * RATE);
/** Frames that are always scheduled ahead: a tab that is not looked at gets to think once a second. */
const AHEAD = Math.round(2.5 * RATE);
/** Frames that are rendered at once. */
const QUANTUM = 128;
/** Milliseconds between looks at what has to be scheduled. */
const LOOK_MS = 100;

/** Sends `change` when `state`, `loop` or `speed` are others, or the place was. */
export class Transport extends EventTarget {
  /** `paused`, `playing`, or `waiting` for sound that is not there. */
  state = "paused";
  /** What is repeated: `{start, end}` in samples, or null. */
  loop = null;
  speed = 1;
  #segments = [];
  #next = { frame: 0, sample: 0 }; // what is scheduled next, and when
  #since = 0; // the frame of the last change
  #timer = 0;
  #graph = null;

  /**
   * @param {import("./sound.js").Sound} sound
   * @param {() => import("./graph.js").Graph} openGraph called when something is to be heard for the first time
   * @param {() => Promise<void>} prepare whatever has to be ready before something is heard
   */
  constructor(sound, openGraph, prepare) {
    super();
    this.sound = sound;
    this.openGraph = openGraph;
    this.prepare = prepare;
    sound.addEventListener("change", this.#look);
    sound.want(0, null);
  }

  /** The sample that is heard now. */
  get place() {
    if (this.state === "paused") return this.#next.sample;
    // Where somebody just went counts at once: going on from there twice is twice as far.
    return clamp(this.#sampleAt(Math.max(this.#graph.frame - this.#graph.delay, this.#since)), 0, this.sound.length);
  }

  /** Play from where it stands, from the beginning if that is the end; `after` frames of something else. */
  async play(after = () => 0) {
    if (this.state !== "paused") return;
    if (this.#next.sample >= this.sound.length) this.#next.sample = this.loop?.start ?? 0;
    this.#graph ??= this.openGraph();
    this.#become("waiting");
    await this.#graph.resume();
    await this.prepare();
    if (this.state !== "waiting" || this.#timer) return; // paused meanwhile, or played twice
    const frame = this.#graph.frame + LEAD;
    this.#next.frame = frame + after(frame);
    this.#timer = setInterval(this.#look, LOOK_MS);
    this.#look();
  }

  /** Stay at what is heard now. */
  pause() {
    if (this.state === "paused") return;
    const sample = Math.round(this.place);
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#cut(0);
    this.#next.sample = sample;
    this.#become("paused");
  }

  /** Go on at another sample. */
  seek(sample) {
    const place = clamp(Math.round(sample), 0, this.sound.length);
    this.#goOn(() => place);
  }

  /** Repeat from `start` up to, not including, `end`, and be there; null repeats nothing. */
  setLoop(loop) {
    this.loop = loop;
    this.#goOn((sample) => (loop && (sample < loop.start || sample >= loop.end) ? loop.start : sample));
  }

  /** Play at another speed, and return the frame from which on. */
  setSpeed(speed) {
    return this.#goOn((sample) => {
      this.speed = speed;
      return sample;
    });
  }

  /** End; the graph is its owner's. */
  close() {
    this.pause();
    this.sound.removeEventListener("change", this.#look);
  }

  /** Go on a little ahead, where `pick` says for the sample that would be heard there. */
  #goOn(pick) {
    if (this.state !== "paused") this.#cut(this.#graph.frame + LEAD);
    this.#next.sample = pick(this.#next.sample);
    this.#since = this.#next.frame;
    this.dispatchEvent(new Event("change"));
    this.#look();
    return this.#since;
  }

  /** Schedule what is due, and ask for the sound that is due after it. */
  #look = () => {
    if (this.state === "paused" || !this.#timer) {
      this.sound.want(this.#next.sample, this.loop);
      return;
    }
    const now = this.#graph.frame;
    this.#segments = this.#segments.filter((segment) => segment.end > now - this.#graph.delay - RATE);
    while (this.#next.sample < this.sound.length && this.#next.frame < now + AHEAD && this.#schedule());
    this.sound.want(this.#sampleAt(now), this.loop);
    if (this.#next.sample >= this.sound.length && now >= this.#next.frame + this.#graph.delay) {
      this.pause();
      return;
    }
    this.#become(now < this.#next.frame + this.#graph.delay ? "playing" : "waiting");
  };

  /** Schedule up to the next edge: of a window, the loop or the song; return whether there was sound for it. */
  #schedule() {
    const { sample } = this.#next;
    const window = this.sound.window(sample);
    if (!window) return false;
    if (this.#next.frame < this.#graph.frame + LEAD / 2) this.#next.frame = this.#graph.frame + LEAD;
    const { loop, speed } = this;
    const end = loop && sample < loop.end ? Math.min(window.end, loop.end) : window.end;
    const segment = { sample, start: this.#next.frame, end: this.#next.frame + (end - sample) / speed, speed };
    const place = { frame: segment.start, offset: sample - window.start, speed };
    segment.sources = [...window.buffers].map(([stem, buffer]) => this.#graph.start(stem, buffer, place));
    if (end < window.end) for (const source of segment.sources) source.stop(segment.end / RATE);
    if (this.#graph.frame + QUANTUM > segment.start) {
      // Somebody kept us busy: whether all stems were in time cannot be known, so none of them is heard.
      stop(segment.sources);
      return true;
    }
    this.#segments.push(segment);
    this.#next = { frame: segment.end, sample: loop && end === loop.end ? loop.start : end };
    return true;
  }

  /** Take back what is scheduled from `frame` on. */
  #cut(frame) {
    const sample = this.#sampleAt(frame);
    for (const segment of this.#segments) {
      if (segment.start >= frame) {
        stop(segment.sources);
      } else if (segment.end > frame) {
        for (const source of segment.sources) source.stop(frame / RATE);
        segment.end = frame;
      }
    }
    this.#segments = this.#segments.filter((segment) => segment.start < frame);
    this.#next = { frame, sample };
  }

  /** Return the sample that is scheduled for a frame; between two segments that of the later one. */
  #sampleAt(frame) {
    for (const { start, end, sample, speed } of this.#segments) {
      if (frame < end) return sample + Math.max(0, frame - start) * speed;
    }
    return this.#next.sample;
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}

/** End sources at once. They stay connected: one that is not rendered any more never ends, and keeps its buffer. */
function stop(sources) {
  for (const source of sources) source.stop();
}
