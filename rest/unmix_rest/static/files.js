// Which files people mean when they choose or drop files and folders.

/** Of a folder only what is called like a song is taken: covers, lists and notes lie beside them. */
const SONG_NAMES =
  /\.(aac|ac3|aifc?|aiff|alac|amr|ape|au|avi|caf|eac3|flac|flv|m4a|m4b|mka|mkv|mov|mp2|mp3|mp4|mpe?g|oga|ogg|opus|spx|tta|w64|wav|weba|webm|wma|wmv|wv)$/i;

/** Whether a file of a folder is likely to be a song; the server looks at the bytes. */
export function looksLikeSong(file) {
  return (file.type.startsWith("audio/") && !/mpegurl|scpls/.test(file.type)) || SONG_NAMES.test(file.name);
}

/** Return what a song is called when its file is called so. */
export function songName(fileName) {
  return fileName.replace(/\.[a-z0-9]{1,5}$/i, "").trim() || fileName;
}

/**
 * Return the files of a drop: those that were dropped themselves, and those that lie in folders that were.
 *
 * The entries have to be asked for before anything is waited for: afterwards the browser has forgotten them.
 *
 * @param {DataTransfer} transfer
 * @param {number} most no more files of folders than this are looked at
 * @returns {Promise<{chosen: File[], found: File[]}>}
 */
export async function filesOfDrop(transfer, most) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const chosen = [];
  const found = [];
  for (const [entry, file] of entries) {
    if (entry?.isDirectory) await walk(entry, found, most);
    else if (file) chosen.push(file);
  }
  return { chosen, found };
}

/** Add the files below a folder to `found`, in the order of their names. */
async function walk(folder, found, most) {
  for (const entry of await contents(folder)) {
    if (found.length >= most) return;
    if (entry.isDirectory) await walk(entry, found, most);
    else {
      const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
      if (file) found.push(file);
    }
  }
}

/** Return the entries of a folder, none if it cannot be read. */
async function contents(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    // It gives a hundred at a time, and nothing when all were given.
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) break;
    all.push(...some);
  }
  return all.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
}
