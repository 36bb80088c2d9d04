// Which songs the page has, on their way or jobs: what is known of each, without how it is shown.

import { allSongs } from "./songs.js";
import { isOver } from "./status.js";

/**
 * A song: on its way (`sending`) or a job (`id`, and `view` once that is known).
 *
 * @typedef {object} Entry
 * @property {string} name
 * @property {number} at when it was added, in ms since 1970
 * @property {string | null} id of its job
 * @property {import("./sending.js").Sending | null} sending
 * @property {object | null} view the job as `GET /apiv1/jobs/<id>` has it
 * @property {number | null} etaSeconds
 * @property {boolean} isGone the server does not know it
 * @property {boolean} isUnknown the server did not answer
 * @property {boolean} isFresh it was added since the page was opened
 * @property {number} look the number of the newest look that was answered
 * @property {import("./api.js").ApiError | null} problem of what was last done with it
 * @property {ReturnType<typeof import("./card.js").makeCard> | null} card once it is shown
 */

/** The songs of the page. */
export class Entries {
  /** @type {Set<Entry>} */
  #all = new Set();

  /** Add a song of which this is known, and return it. */
  add(facts) {
    const entry = {
      name: "",
      at: 0,
      id: null,
      sending: null,
      view: null,
      etaSeconds: null,
      isGone: false,
      isUnknown: false,
      isFresh: false,
      look: 0,
      problem: null,
      card: null,
      ...facts,
    };
    this.#all.add(entry);
    return entry;
  }

  delete(entry) {
    this.#all.delete(entry);
  }

  /** Bring the songs in line with what the browser remembers, which other tabs change too; returns those that went. */
  recall() {
    const songs = allSongs();
    const ids = new Set(songs.map((song) => song.id));
    const gone = this.#array().filter((entry) => entry.id && !ids.has(entry.id));
    for (const entry of gone) this.delete(entry);
    const known = new Map(this.#array().map((entry) => [entry.id, entry]));
    for (const song of songs) {
      if (known.has(song.id)) Object.assign(known.get(song.id), song);
      else this.add(song);
    }
    return gone;
  }

  /** Return the song of a job. */
  ofJob(id) {
    return this.#array().find((entry) => entry.id === id);
  }

  /** Return the song that is on its way as this. */
  ofSending(sending) {
    return this.#array().find((entry) => entry.sending === sending);
  }

  /** Return the songs that are called like this, the newest first; all of them for nothing. */
  find(text) {
    const wanted = simple(text);
    return this.#array()
      .filter((entry) => simple(entry.name).includes(wanted))
      .sort((one, other) => other.at - one.at);
  }

  /** The jobs that are to be watched: those that go on, and those that are shown and not known. */
  open() {
    return this.#array()
      .filter((entry) => entry.id && !entry.isGone && (entry.view ? !isOver(entry.view) : entry.card))
      .map((entry) => entry.id);
  }

  #array() {
    return [...this.#all];
  }
}

/** Return a text as it is searched: without accents, capitals and blanks at the ends. */
const simple = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().trim();
