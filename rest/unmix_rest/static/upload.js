// The place where songs come in: drop, choose, or paste a link. What is done with them is sending.js'.

import { byId, write } from "./dom.js";
import { filesOfDrop, looksLikeSong } from "./files.js";
import { texts } from "./texts.js";

/** Most songs that are taken at once. */
const MOST_AT_ONCE = 500;
/** Most files of dropped folders that are looked at. */
const MOST_LOOKED_AT = 5000;

/**
 * Make the page take songs in.
 *
 * @param {{onFiles: (files: File[]) => void, onLink: (url: string) => void}} handlers
 */
export function mountUpload({ onFiles, onLink }) {
  const note = byId("upload-note");

  /** Take the files that were meant, and of folders those that look like songs. */
  function take(chosen, found) {
    const songs = found.filter(looksLikeSong);
    const all = [...chosen, ...songs];
    const left = found.length - songs.length;
    const said = [];
    if (!all.length) said.push(texts("upload.nothing"));
    if (all.length > MOST_AT_ONCE) said.push(texts("upload.tooMany", { count: MOST_AT_ONCE }));
    if (all.length && left) said.push(texts("upload.leftOut", { count: left }));
    write(note, said.join(" "));
    onFiles(all.slice(0, MOST_AT_ONCE));
  }

  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      const files = [...target.files];
      target.value = ""; // so that the same file can be chosen again
      take(input === "files" ? files : [], input === "files" ? [] : files);
    });
  }
  acceptDrops((transfer) => filesOfDrop(transfer, MOST_LOOKED_AT).then(({ chosen, found }) => take(chosen, found)));

  byId("link").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("link-url");
    onLink(field.value.trim());
    field.value = "";
  });
}

/** Show the field for links, or do not: whether the server follows them is the operator's choice. */
export function allowLinks(isAllowed) {
  byId("link").hidden = !isAllowed;
}

/** Take drops anywhere on the page, and show that they are taken. */
function acceptDrops(onDrop) {
  const call = byId("drop").querySelector(".drop-call");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = (isOver) => {
    document.body.classList.toggle("dropping", isOver);
    write(call, texts(isOver ? "upload.dropNow" : "upload.drop"));
  };
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    show(true);
  });
  // Over each element on its way out of the window there is one; only the last has nowhere to go.
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) show(false);
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(false);
    onDrop(event.dataTransfer);
  });
}
