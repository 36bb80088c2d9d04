// What there is of a job to be heard and drawn, and where it comes from: its parts while there are any, else its finished
// stems. When a job ends while its parts are played, nothing changes: they are the same samples.

import { PartsSource } from "./parts.js";
import { Peaks } from "./peaks.js";
import { StemsSource } from "./stems.js";
import { RATE } from "./units.js";

/** Milliseconds until what could not be asked for is asked for again. */
const RETRY_MS = 3000;

/** Sends `source` when there is another source, `change` when the job is told otherwise. */
export class Song extends EventTarget {
  source = null;
  /** What kept it from being asked for, null if nothing did. */
  problem = null;
  peaks = new Peaks();
  #api;
  #busy = false;
  #again = false;
  #hasPeaks = false;
  #isClosed = false;

  constructor(api, job) {
    super();
    this.#api = api;
    this.job = job;
  }

  /** Whether more of the song is still to be made. */
  get isBeingMade() {
    return this.job.status === "queued" || this.job.status === "running";
  }

  /** Look at what a job has become. */
  update(job) {
    this.job = job;
    this.dispatchEvent(new Event("change"));
    return this.#refresh();
  }

  /** Look for another source: what the present one promised is gone. */
  async lookAgain() {
    try {
      this.job = await this.#api.json(`/apiv1/jobs/${this.job.hash}`);
    } catch {
      return; // whoever wanted the sound tries again, and so comes here again
    }
    await this.#open(this.#sourceOf(this.job)).catch(() => {});
  }

  /** Ask for nothing more. */
  close() {
    this.#isClosed = true;
  }

  /** Ask for what is new, one at a time. */
  async #refresh() {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#again && !this.#isClosed) {
        this.#again = false;
        await this.#ask();
      }
      this.problem = null;
    } catch (error) {
      this.problem = error;
      this.dispatchEvent(new Event("change"));
      setTimeout(() => this.#isClosed || this.#refresh(), RETRY_MS);
    } finally {
      this.#busy = false;
    }
  }

  async #ask() {
    if (!this.source) await this.#open(this.#sourceOf(this.job));
    // Jobs tell of their progress more often than they have another part.
    else if (this.job.parts?.there > this.source.known) await this.source.refresh(this.job);
    if (this.job.peaks && !this.#hasPeaks) {
      const told = await this.#api.json(this.job.peaks);
      this.#hasPeaks = true;
      this.peaks.setWhole(told, RATE);
    }
  }

  #sourceOf(job) {
    if (job.parts) return new PartsSource(this.#api, this.peaks);
    return Object.keys(job.stems ?? {}).length ? new StemsSource(this.#api) : null;
  }

  async #open(source) {
    if (!source || !(await source.refresh(this.job)) || this.#isClosed) return;
    this.peaks.setLength(source.length);
    this.source = source;
    this.dispatchEvent(new Event("source"));
  }
}
