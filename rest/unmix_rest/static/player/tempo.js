// Speed and pitch: 1 and 0 are the song as it is, for which nothing is loaded and no sample changes.

import { canStretch, loadStretch } from "./stretch/stretch.js";

/** Sends `change` when the speed, the pitch or `problem` is another. */
export class Tempo extends EventTarget {
  speed = 1;
  semitones = 0;
  /** Why it stays as it is: `unsupported` by the browser, `failed` to be loaded, null if nothing is wrong. */
  problem = null;
  #stretch = null; // of the graph that there is, once it was asked for
  #loading = null;

  /**
   * @param {import("./transport.js").Transport} transport
   * @param {() => import("./graph.js").Graph | null} graph null until something is heard
   */
  constructor(transport, graph) {
    super();
    this.transport = transport;
    this.graph = graph;
  }

  /** Have the song at a speed, and so many semitones higher, from now on or from when it is played. */
  async set({ speed, semitones }) {
    if (speed === this.speed && semitones === this.semitones) return;
    Object.assign(this, { speed, semitones, problem: null });
    this.dispatchEvent(new Event("change"));
    await this.apply();
  }

  /** Do what was set, once there is something to hear. */
  async apply() {
    const graph = this.graph();
    if (!graph || (!this.#isPlain && !this.#stretch && !(await this.#load(graph)))) return;
    const { transport, speed, semitones } = this;
    const { place } = transport;
    // What is on its way through the node is lost when that is left, and comes later when it is entered.
    if (graph.through(this.#isPlain ? null : this.#stretch)) transport.seek(place);
    const frame = transport.speed === speed ? graph.frame : transport.setSpeed(speed);
    this.#stretch?.set({ speed, semitones, frame });
  }

  get #isPlain() {
    return this.speed === 1 && this.semitones === 0;
  }

  async #load(graph) {
    try {
      if (!canStretch(graph.context)) {
        this.#giveUp("unsupported");
        return false;
      }
      this.#loading ??= loadStretch(graph.context);
      this.#stretch = await this.#loading;
      return true;
    } catch {
      this.#loading = null;
      this.#giveUp("failed");
      return false;
    }
  }

  #giveUp(problem) {
    Object.assign(this, { speed: 1, semitones: 0, problem });
    this.dispatchEvent(new Event("change"));
  }
}
