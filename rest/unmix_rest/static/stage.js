// The player on the page: loaded when it is first wanted, and one at a time.

import { api } from "./api.js";
import { make } from "./dom.js";
import { language, texts } from "./texts.js";

let loading = null;

/** Load the player, so that it is there when somebody wants to listen. */
export function loadPlayer() {
  loading ??= Promise.all([import("./player/player.js"), import(`./texts/player.${language}.js`)])
    .then(([player, words]) => {
      texts.add(words.default);
      document.head.append(make("link", { rel: "stylesheet", href: "/static/player/player.css" }));
      return player.mountPlayer;
    })
    .catch((error) => {
      loading = null; // the next one tries again
      throw error;
    });
  return loading;
}

/** Return the stage, on which there is at most one player. */
export function createStage() {
  let shown = null; // {entry, player}: the player is null while it is loaded

  function close() {
    if (!shown) return;
    const { entry, player } = shown;
    shown = null;
    player?.destroy();
    entry.card.stage.replaceChildren();
    entry.card.setOpen(false);
    entry.card.show(entry);
  }

  return {
    /** Open the player of a song, or close it if it is open. */
    async toggle(entry) {
      const isThis = shown?.entry === entry;
      close();
      if (isThis) return;
      const mine = { entry, player: null };
      shown = mine;
      entry.card.setOpen(true);
      entry.card.show(entry);
      try {
        const mountPlayer = await loadPlayer();
        if (shown !== mine) return;
        const onReady = () => shown === mine && bringIntoSight(entry.card.element);
        mine.player = mountPlayer(entry.card.stage, entry.view, { api, texts, onReady });
        entry.card.element.scrollIntoView({ block: "nearest" });
      } catch (error) {
        console.warn(error);
        if (shown === mine) entry.card.stage.replaceChildren(make("p", { role: "alert" }, texts("player.missing")));
      }
    },
    /** Tell the player, if it is this song's, that its job has changed. */
    update(entry) {
      if (shown?.entry === entry) shown.player?.update(entry.view);
    },
    /** Close the player if it is this song's. */
    leave(entry) {
      if (shown?.entry === entry) close();
    },
    /** Whether this song's player is open. */
    holds: (entry) => shown?.entry === entry,
    get isEmpty() {
      return shown === null;
    },
  };
}

/** Scroll to all of a card, or from its top on where it is taller than the window: what is pressed first is there. */
function bringIntoSight(card) {
  card.scrollIntoView({ block: card.offsetHeight > innerHeight ? "start" : "nearest" });
}
