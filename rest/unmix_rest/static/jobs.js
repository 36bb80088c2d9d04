// The songs of this browser on the page: a card each, how they go, and what people do with them.

import { api } from "./api.js";
import { makeCard } from "./card.js";
import { byId } from "./dom.js";
import { Entries } from "./entries.js";
import { addSong, forgetSong, onSongsElsewhere, renameSong } from "./songs.js";
import { createStage, loadPlayer } from "./stage.js";
import { isOver, isPlayable, reason } from "./status.js";
import { texts } from "./texts.js";

/** Cards that are shown at once, and how many more at a time. */
const SHOWN = 20;
/** From how many songs on one can search. */
const SEARCHED_FROM = 2;

/**
 * Show the songs.
 *
 * @param {object} options
 * @param {(text: string) => void} options.say tells screen readers
 * @param {(isReachable: boolean) => void} options.onReachable told with each answer that comes, or does not
 * @param {() => void} options.onOpenChanged told when there are other jobs to watch
 * @param {() => void} options.onDone told when a song has become ready
 */
export function mountJobs({ say, onReachable, onOpenChanged, onDone }) {
  const entries = new Entries();
  const stage = createStage();
  let sender = null;
  let limit = SHOWN;
  let looks = 0;
  let opensItself = false; // whether the first song that can be heard of those that were just added is opened

  const list = byId("list");
  const search = byId("search");
  const show = (entry) => entry.card?.show(entry);

  /** Show the cards that are to be shown, in their order; those that stay are not touched. */
  function arrange() {
    const all = entries.find("");
    const found = entries.find(search.value);
    const first = new Set(found.slice(0, limit));
    // What is listened to stays in sight: nobody could stop it elsewhere.
    const shown = all.filter((entry) => first.has(entry) || stage.holds(entry));
    for (const entry of shown) if (!entry.card) prepare(entry);
    const cards = shown.map((entry) => entry.card.element);
    for (const child of [...list.children]) if (!cards.includes(child)) child.remove();
    cards.forEach((card, place) => {
      if (list.children[place] !== card) list.insertBefore(card, list.children[place] ?? null);
    });
    document.body.classList.toggle("has-songs", all.length > 0);
    byId("no-jobs").hidden = all.length > 0;
    byId("none-found").hidden = found.length > 0 || !all.length;
    byId("more").hidden = found.length <= limit;
    search.hidden = all.length < SEARCHED_FROM && !search.value;
    onOpenChanged();
  }

  function prepare(entry) {
    const actions = {
      listen: () => {
        opensItself = false;
        stage.toggle(entry);
      },
      cancel: () => (entry.sending ? leave(entry) : change(entry, "cancel")),
      retry: () => (entry.sending ? sender.add(entry.sending) : change(entry, "retry")),
      share: () => share(entry),
      remove: () => remove(entry),
      dismiss: () => leave(entry),
    };
    entry.card = makeCard(actions, (name) => {
      entry.name = name;
      if (entry.id) renameSong(entry.id, name);
      show(entry);
    });
    show(entry);
    if (entry.id && !entry.view) look(entry.id);
  }

  /** Ask how a job stands, and show it. */
  async function look(id) {
    const number = (looks += 1);
    try {
      const view = await api.json(`/apiv1/jobs/${id}`);
      onReachable(true);
      const entry = entries.ofJob(id);
      if (!entry || entry.look > number) return; // a later one was quicker
      entry.look = number;
      setView(entry, view);
    } catch (error) {
      onReachable(error.code !== "unreachable");
      const entry = entries.ofJob(id);
      if (entry && error.status === 404) setGone(entry);
      else if (entry) {
        entry.isUnknown = true;
        show(entry);
      }
    }
  }

  function setGone(entry) {
    stage.leave(entry);
    Object.assign(entry, { isGone: true, view: null });
    show(entry);
    onOpenChanged();
  }

  /** Show a job as it is now, and say what has happened to it. */
  function setView(entry, view) {
    const before = entry.view;
    if (view.status === "running" && before?.status === "running" && view.attempt === before.attempt) {
      // Events and the job itself need not be of the same moment: nobody wants to see it go back.
      view = { ...view, progress: Math.max(view.progress, before.progress) };
    }
    Object.assign(entry, { view, isGone: false, isUnknown: false, name: entry.name || (view.name ?? "") });
    if (isOver(view)) entry.etaSeconds = null;
    tell(entry, before);
    show(entry);
    stage.update(entry);
    if (opensItself && entry.isFresh && entry.card && isPlayable(view)) {
      opensItself = false;
      stage.toggle(entry);
    }
    if (!before || isOver(before) !== isOver(view)) onOpenChanged();
  }

  function tell(entry, before) {
    const { view, name } = entry;
    if (!before && !entry.isFresh) return; // it was so when the page was opened
    if (before?.status !== view.status && view.status !== "queued") {
      const why = view.status === "failed" ? reason(view.error_code, view.error) : "";
      say(texts(`said.${view.status}`, { name, why }));
      if (view.status === "done") onDone();
    } else if (view.status === "running" && isPlayable(view) && !isPlayable(before)) {
      say(texts("said.early", { name }));
    }
  }

  /** Take over what an event tells; at an end, and at the first part, all of the job is asked for. */
  function hear(event) {
    const entry = entries.ofJob(event.hash);
    if (!entry?.view) return;
    if (event.status === undefined) {
      setGone(entry); // it was removed
      return;
    }
    if (entry.view.status === event.status && isOver(entry.view)) return;
    const { status, position, progress, attempt, parts } = event;
    if (isOver(event) || isOver(entry.view) || (parts && !entry.view.parts)) {
      look(event.hash);
      return;
    }
    entry.etaSeconds = event.eta_seconds;
    const there = parts ? { ...entry.view.parts, ...parts } : entry.view.parts;
    setView(entry, { ...entry.view, status, position, progress, attempt, parts: there, retry_at: null });
  }

  /** Cancel a job, or try it again. */
  async function change(entry, action) {
    entry.problem = null;
    try {
      await api.post(`/apiv1/jobs/${entry.id}/${action}`);
    } catch (error) {
      // That it was over already is shown by how it stands.
      if (error.code !== "job_over") entry.problem = error;
    }
    await look(entry.id);
  }

  /** Make a link to all stems of a job, for those who have no key. */
  async function share(entry) {
    try {
      const { link } = await api.post(`/apiv1/jobs/${entry.id}/links`);
      const url = new URL(`/apiv1/jobs/${entry.id}/stems.zip?${new URLSearchParams({ link })}`, location.href);
      entry.card.showLink(url.href);
      say(texts("said.shared", { name: entry.name }));
    } catch (error) {
      entry.problem = error;
      show(entry);
    }
  }

  async function remove(entry) {
    try {
      await api.fetch(`/apiv1/jobs/${entry.id}`, { method: "DELETE" });
    } catch (error) {
      if (error.status !== 404) {
        entry.problem = error;
        show(entry);
        return;
      }
    }
    say(texts("said.deleted", { name: entry.name }));
    leave(entry);
  }

  /** Take a song off the list, and off its way to the server. */
  function leave(entry) {
    if (entry.sending) sender.stop(entry.sending);
    if (entry.id) forgetSong(entry.id);
    const hadFocus = entry.card.element.contains(document.activeElement);
    const beside = entry.card.element.nextElementSibling ?? entry.card.element.previousElementSibling;
    drop(entry);
    arrange();
    // Whoever uses the keyboard goes on from here, not from the top.
    if (hadFocus) (beside?.querySelector("h3") ?? byId("jobs-title")).focus();
  }

  function drop(entry) {
    stage.leave(entry);
    entry.card?.element.remove();
    entries.delete(entry);
  }

  function recall() {
    entries.recall().forEach(drop);
    arrange();
  }

  search.addEventListener("input", arrange);
  byId("more").addEventListener("click", () => {
    limit += SHOWN;
    arrange();
  });
  onSongsElsewhere(() => {
    recall();
    entries.find("").forEach(show);
  });

  return {
    look,
    hear,
    open: () => entries.open(),
    /** Show what the browser remembers; songs are sent with `songSender` from now on. */
    start(songSender) {
      sender = songSender;
      recall();
    },
    /** Send songs, and show them above all others in the order in which they are given. */
    send(sendings) {
      loadPlayer().catch(() => {}); // whoever opens it is told
      opensItself = stage.isEmpty;
      const now = Date.now();
      sendings.forEach((sending, place) => {
        const at = now + sendings.length - place;
        entries.add({ name: sending.fields.name, at, sending, isFresh: true });
      });
      arrange();
      sendings.forEach(sender.add);
    },
    /** Ask and send again what was refused because nobody was signed in. */
    tryAgain() {
      for (const { id, sending, isUnknown } of entries.find("")) {
        if (id && isUnknown) look(id);
        if (sending?.problem?.status === 401) sender.add(sending);
      }
      onOpenChanged();
    },
    /** Show how a song gets on that is sent. */
    onSending(sending) {
      const entry = entries.ofSending(sending);
      if (!entry) return;
      if (sending.phase === "refused") {
        say(texts("said.refused", { name: entry.name, why: reason(sending.problem.code, sending.problem.message) }));
      }
      show(entry);
    },
    /** Take over the job that a song has become; if there is one already, it is that one. */
    onAccepted(sending, view) {
      const entry = entries.ofSending(sending);
      if (!entry) return;
      say(texts("said.sent", { name: entry.name }));
      const same = entries.ofJob(view.hash);
      if (same) drop(same);
      Object.assign(entry, { id: view.hash, sending: null, name: same?.name || entry.name });
      addSong(view.hash, entry.name, entry.at);
      setView(entry, view);
      arrange();
    },
  };
}
