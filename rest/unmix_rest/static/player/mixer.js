// A row for each stem: its name, mute, solo, volume, pan and level. What is set is mix.js's, and shown from there.

import { button, element } from "./dom.js";
import { LOUDEST } from "./mix.js";

export class Mixer {
  #rows = new Map();
  #watching = new AbortController();

  /** @param {{mix: import("./mix.js").Mix, texts: Function}} options */
  constructor({ mix, texts }) {
    Object.assign(this, { mix, texts });
    this.element = element("div", { class: "player-mixer", role: "group", "aria-label": texts("player.mixer") });
    mix.stems.forEach((stem, index) => this.element.append(this.#row(stem, index)));
    mix.addEventListener("change", () => this.#show(), { signal: this.#watching.signal });
    this.#show();
  }

  /** Show how loud each stem is heard; `levelOf` gives a stem's, from 0 to 1. */
  showLevels(levelOf) {
    for (const [stem, { level }] of this.#rows) level.style.transform = `scaleX(${Math.min(1, levelOf(stem))})`;
  }

  /** Return the stem of the row that an element is in, if it is in one. */
  stemOf(target) {
    return [...this.#rows].find(([, { row }]) => row.contains(target))?.[0];
  }

  /** Stop looking at what changes. */
  close() {
    this.#watching.abort();
  }

  /** Return what people call a stem; one that nobody has a word for is called as it is. */
  static nameOf(stem, texts) {
    const key = `player.stem.${stem}`;
    const name = texts(key);
    return name === key ? stem : name;
  }

  #row(stem, index) {
    const { mix, texts } = this;
    const name = Mixer.nameOf(stem, texts);
    const toggle = (what) =>
      button({
        class: `player-toggle player-${what}`,
        "aria-label": texts(`player.${what}.stem`, { stem: name }),
        title: texts(`player.${what}.key`, { number: index + 1 }),
        text: texts(`player.${what}`),
        onclick: () => mix.set(stem, { [what]: !mix.of(stem)[what] }),
      });
    const slider = (what, least, most) =>
      element("input", {
        class: `player-${what}`,
        type: "range",
        min: least,
        max: most,
        step: 0.01,
        "aria-label": texts(`player.${what}.stem`, { stem: name }),
        title: texts(`player.${what}.hint`),
        oninput: (event) => mix.set(stem, { [what]: event.target.valueAsNumber }),
        ondblclick: () => mix.set(stem, { [what]: what === "volume" ? 1 : 0 }),
      });
    const level = element("span", { class: "player-level-now" });
    const made = {
      muted: toggle("muted"),
      soloed: toggle("soloed"),
      volume: slider("volume", 0, LOUDEST),
      pan: slider("pan", -1, 1),
      level,
    };
    made.row = element(
      "div",
      { class: "player-row", role: "group", "aria-label": name, "data-stem": stem },
      element("span", { class: "player-name", text: name }),
      made.muted,
      made.soloed,
      made.volume,
      element("span", { class: "player-sides" }, made.pan),
      element("span", { class: "player-level", "aria-hidden": "true" }, level),
    );
    made.row.style.setProperty("--stem", `var(--stem-${CSS.escape(stem)}, currentColor)`);
    this.#rows.set(stem, made);
    return made.row;
  }

  #show() {
    const { mix, texts } = this;
    for (const [stem, { row, muted, soloed, volume, pan }] of this.#rows) {
      const set = mix.of(stem);
      row.classList.toggle("is-silent", !mix.isHeard(stem));
      muted.ariaPressed = String(set.muted);
      soloed.ariaPressed = String(set.soloed);
      volume.value = set.volume;
      volume.setAttribute("aria-valuetext", `${Math.round(100 * set.volume)} %`);
      pan.value = set.pan;
      const side = set.pan < 0 ? "left" : "right";
      const place = set.pan ? texts(`player.pan.${side}`, { percent: Math.round(100 * Math.abs(set.pan)) }) : texts("player.pan.middle");
      pan.setAttribute("aria-valuetext", place);
    }
  }
}
