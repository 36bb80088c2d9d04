// What this browser remembers of its songs: which jobs are its own, what they are called here, and its batch.

const SONGS = "unmix.songs";
const BATCH = "unmix.batch";
/** Most songs that are remembered; the oldest are forgotten, here only. */
const MOST_SONGS = 1000;

/** For browsers that keep nothing, as in some private windows: the page works until it is closed. */
const memory = new Map();

/** Return what is kept under a name, null if nothing is. */
export function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? memory.get(name) ?? null;
  } catch {
    return memory.get(name) ?? null;
  }
}

/** Keep something under a name. */
export function keep(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Full, or not allowed.
  }
}

/**
 * Return the songs of this browser, the newest first.
 *
 * Always read anew, and changed as a whole: another tab may have added one meanwhile.
 *
 * @returns {{id: string, name: string, at: number}[]} `at`: when it was added, in ms since 1970; no two are the same
 */
export function allSongs() {
  const found = recall(SONGS);
  if (!Array.isArray(found)) return [];
  const isSong = (song) => typeof song?.id === "string" && typeof song.name === "string";
  return found.filter(isSong).sort((one, other) => other.at - one.at);
}

/** Put a song where it belongs by `at`; it keeps the name that it has here already. */
export function addSong(id, name, at) {
  const known = allSongs();
  const before = known.find((song) => song.id === id);
  const others = known.filter((song) => song.id !== id);
  keep(SONGS, [{ id, name: before?.name ?? name, at }, ...others].sort((a, b) => b.at - a.at).slice(0, MOST_SONGS));
}

/** Call a song something else, in this browser. */
export function renameSong(id, name) {
  keep(SONGS, allSongs().map((song) => (song.id === id ? { ...song, name } : song)));
}

/** Forget a song. */
export function forgetSong(id) {
  keep(SONGS, allSongs().filter((song) => song.id !== id));
}

/** Call `listener` whenever another tab has changed the songs. */
export function onSongsElsewhere(listener) {
  addEventListener("storage", (event) => {
    if (event.key === SONGS || event.key === null) listener();
  });
}

/** Return what all songs of this browser are sent together as: one stream tells of all of them. */
export function batchOfThisBrowser() {
  const known = recall(BATCH);
  if (typeof known === "string" && known) return known;
  // Not randomUUID, which pages without https do not have.
  const digits = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0"));
  const batch = `page-${digits.join("")}`;
  keep(BATCH, batch);
  return batch;
}
