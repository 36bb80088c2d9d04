// One song on the page: its name, how it stands, what can be done with it, its downloads, and room for the player.

import { make, write } from "./dom.js";
import { inOrder, stemName } from "./options.js";
import { factsOf, hasStems, isOver, isPlayable, statusOf } from "./status.js";
import { texts } from "./texts.js";

/** How long a second click deletes, in ms. */
const SURE_MS = 5000;
let cards = 0;

/**
 * Return the card of a song.
 *
 * @param {Record<string, () => void>} actions listen, cancel, retry, share, remove, dismiss
 * @param {(name: string) => void} onRename
 * @returns {{element: HTMLElement, stage: HTMLElement, show: (entry: object) => void, setOpen: (is: boolean) => void}}
 *   `stage` is where the player goes
 */
export function makeCard(actions, onRename) {
  const title = make("h3", { id: `song-${(cards += 1)}`, tabIndex: -1 });
  const facts = make("p", { className: "facts quiet small" });
  const state = make("span", { className: "state" });
  const why = make("span", { className: "why" });
  const progress = make("progress", { max: 1 });
  const notes = make("p", { className: "notes quiet small" });
  const shared = make("input", { type: "text", className: "shared", readOnly: true, hidden: true });
  const downloads = make("ul", { className: "downloads" });
  const stage = make("div", { className: "stage", id: `stage-${cards}`, hidden: true });
  const buttons = Object.fromEntries(
    ["listen", "cancel", "retry", "share", "rename", "delete", "dismiss"].map((name) => [
      name,
      make("button", { type: "button", className: name, hidden: true }, texts(`action.${name}`)),
    ]),
  );
  buttons.listen.setAttribute("aria-controls", stage.id);
  const form = make(
    "form",
    { className: "rename row", hidden: true },
    make("input", { type: "text", maxLength: 300, "aria-label": texts("rename.label"), autocomplete: "off" }),
    make("button", {}, texts("action.save")),
    make("button", { type: "button" }, texts("action.cancel")),
  );
  const element = make(
    "li",
    { className: "card" },
    make(
      "div",
      { className: "head" },
      make("div", { className: "names" }, title, form, facts),
      make("div", { className: "row actions" }, ...Object.values(buttons)),
    ),
    make("p", { className: "status" }, state, " ", why),
    progress,
    stage, // before what comes when the song is done, so that nothing in it moves then
    downloads,
    shared,
    notes,
  );
  element.setAttribute("aria-labelledby", title.id);

  let isOpen = false;
  let shownDownloads = "";
  let sure = 0; // the timer while a second click deletes

  function show(entry) {
    const { view } = entry;
    const status = statusOf(entry);
    write(title, entry.name || texts("jobs.noName"));
    write(facts, factsOf(view).join(" · "));
    write(state, status.text);
    write(why, status.why);
    element.dataset.tone = status.tone;
    // Above a player it keeps its room when it is over, so that the player stays where it is.
    progress.hidden = status.share === null && !isOpen;
    progress.classList.toggle("over", status.share === null);
    progress.value = status.share ?? 0;
    progress.setAttribute("aria-label", texts("job.progress", { name: title.textContent }));
    write(notes, [view?.label, ...(view?.warnings ?? [])].filter(Boolean).join(" · "));
    notes.hidden = !notes.textContent;
    showButtons(entry);
    showDownloads(entry);
  }

  function showButtons(entry) {
    const { sending, view, isGone } = entry;
    const isRefused = sending?.phase === "refused";
    const isJob = !sending && view && !isGone;
    const shown = {
      listen: isOpen || (isJob && isPlayable(view)),
      cancel: sending ? !isRefused : isJob && !isOver(view),
      share: isJob && hasStems(view),
      retry: isRefused || (isJob && ["failed", "cancelled"].includes(view.status)),
      rename: isJob,
      delete: isJob && isOver(view),
      dismiss: isRefused || isGone,
    };
    for (const [name, button] of Object.entries(buttons)) {
      button.hidden = !shown[name];
      call(button, name === "listen" && isOpen ? "close" : name === "delete" && sure ? "deleteSure" : name);
    }
    buttons.listen.classList.toggle("main", !isOpen);
    buttons.listen.setAttribute("aria-expanded", String(isOpen));
  }

  /** Call a button what it does, to screen readers also with which song. */
  function call(button, name) {
    const action = texts(`action.${name}`);
    write(button, action);
    button.setAttribute("aria-label", texts("action.of", { action, name: title.textContent }));
  }

  function showDownloads(entry) {
    const stems = !entry.isGone && entry.view && hasStems(entry.view) ? entry.view.stems : {};
    const shows = `${title.textContent}\n${Object.values(stems).map((stem) => stem.url).join("\n")}`;
    if (shows === shownDownloads) return;
    shownDownloads = shows;
    const link = (href, text) => {
      const label = texts("job.download", { stem: text, name: title.textContent });
      return make("a", { href, download: "", "aria-label": label }, text);
    };
    const links = inOrder(Object.keys(stems)).map((stem) => link(stems[stem].url, stemName(stem)));
    if (links.length > 1) links.push(link(`/apiv1/jobs/${entry.id}/stems.zip`, texts("job.zip")));
    downloads.replaceChildren(...links.map((each) => make("li", {}, each)));
    downloads.hidden = !links.length;
    downloads.setAttribute("aria-label", texts("job.downloads"));
  }

  function endSure() {
    clearTimeout(sure);
    sure = 0;
    call(buttons.delete, "delete");
  }

  for (const name of ["listen", "cancel", "retry", "share", "dismiss"]) buttons[name].addEventListener("click", actions[name]);
  buttons.delete.addEventListener("click", () => {
    if (sure) {
      endSure();
      actions.remove();
      return;
    }
    sure = setTimeout(endSure, SURE_MS);
    call(buttons.delete, "deleteSure");
  });
  buttons.delete.addEventListener("blur", endSure);

  const [field, , stop] = form.elements;
  const setRenaming = (isRenaming) => {
    form.hidden = !isRenaming;
    title.hidden = isRenaming;
    (isRenaming ? field : buttons.rename).focus();
  };
  buttons.rename.addEventListener("click", () => {
    field.value = title.textContent;
    setRenaming(true);
    field.select();
  });
  stop.addEventListener("click", () => setRenaming(false));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") setRenaming(false);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) onRename(field.value.trim());
    setRenaming(false);
  });

  return {
    element,
    stage,
    show,
    /** Show a link to the song, ready to be copied. */
    showLink(url) {
      Object.assign(shared, { value: url, hidden: false });
      shared.setAttribute("aria-label", texts("share.label", { name: title.textContent }));
      shared.focus();
      shared.select();
    },
    setOpen: (value) => {
      isOpen = value;
      stage.hidden = !value;
    },
  };
}
