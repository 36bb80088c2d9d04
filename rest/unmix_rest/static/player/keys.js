// The player's keys, and the list of them that is shown for `?`. They work wherever the keyboard is on the page but in fields
// that take text, and on controls that use the same key themselves.

import { button, element } from "./dom.js";

/** What a key does, by `event.key` in lower case; the text of `player.keys.<action>` says it to people. */
const KEYS = [
  [" ", "play"],
  ["arrowleft", "back"],
  ["arrowright", "forward"],
  ["home", "start"],
  ["l", "loop"],
  ["[", "loopStart"],
  ["]", "loopEnd"],
  ["k", "karaoke"],
  ["a", "acappella"],
  ["d", "drumless"],
  ["p", "practice"],
  ["0", "all"],
  ["m", "mute"],
  ["s", "solo"],
  ["-", "slower"],
  ["+", "faster"],
  ["?", "help"],
];
const LABELS = { " ": "␣", arrowleft: "←", arrowright: "→", home: "Home" };
/** Numbers mute the stem of that row, with the shift key they solo it. */
const STEM = /^Digit([1-9])$/;

const WRITES = "input:not([type=range], [type=checkbox], [type=button]), textarea, select, [contenteditable]";
const PRESSES = "button, a, summary, input[type=checkbox]";

/**
 * Listen to the keys of a page, until `signal` is aborted.
 *
 * @param {{act: (action: string, target: Element) => void, stem: (index: number, what: string) => void}} player
 * @param {AbortSignal} signal
 */
export function listen({ act, stem }, signal) {
  const pressed = (event) => {
    const { target } = event;
    // Some keyboards have brackets only with AltGr, which looks like Ctrl and Alt.
    const isCommand = (event.ctrlKey || event.altKey) && !event.getModifierState("AltGraph");
    if (isCommand || event.metaKey || event.defaultPrevented) return;
    if (target.closest(WRITES) || document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    if (target.closest("input[type=range]") && (key.startsWith("arrow") || key === "home")) return;
    if (target.closest(PRESSES) && key === " ") return;
    const [, digit] = STEM.exec(event.code) ?? [];
    const action = KEYS.find(([each]) => each === key)?.[1];
    if (digit) stem(Number(digit) - 1, event.shiftKey ? "soloed" : "muted");
    else if (action) act(action, target);
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", pressed, { signal });
}

/** Make the list of the keys, which shows itself with `showModal`. */
export function keysDialog(texts) {
  const list = element("dl", { class: "player-keys" });
  const entry = (key, text) =>
    list.append(element("div", {}, element("dt", {}, element("kbd", { text: key })), element("dd", { text })));
  for (const [key, action] of KEYS) entry(LABELS[key] ?? key.toUpperCase(), texts(`player.keys.${action}`));
  entry("1 – 9", texts("player.keys.muteNumber"));
  entry("⇧ 1 – 9", texts("player.keys.soloNumber"));
  const dialog = element(
    "dialog",
    { class: "player-help", "aria-label": texts("player.keys") },
    element("h3", { text: texts("player.keys") }),
    list,
    button({ text: texts("player.close"), onclick: () => dialog.close() }),
  );
  return dialog;
}
