// The bar below the waveform: play, the time, loop, presets; and what few need: speed, pitch, count-in, the mix as a file.

import { button, element, icon, setIcon } from "./dom.js";
import { presetsFor } from "./presets.js";
import { RATE, clock } from "./units.js";

export const SLOWEST = 0.5;
export const FASTEST = 1.5;
export const MOST_SEMITONES = 12;

/** Elements only: what they do is given, what they show is told by `show`. */
export class Controls {
  #playIcon = icon("play");
  #pressed = null; // of the buttons that save, the last one

  /**
   * @param {string[]} stems
   * @param {(key: string, values?: object) => string} texts
   * @param {{act: (action: string) => void, setSpeed: Function, setPitch: Function,
   *   export: (format: string) => void, stop: Function}} does
   */
  constructor(stems, texts, does) {
    this.texts = texts;
    const act = (action) => () => does.act(action);
    this.play = button({ class: "player-play", onclick: act("play") }, this.#playIcon);
    this.start = button({ "aria-label": texts("player.start"), title: texts("player.start"), onclick: act("start") }, icon("start"));
    this.loop = button({ "aria-label": texts("player.loop"), title: texts("player.loop.hint"), onclick: act("loop") }, icon("loop"));
    this.time = element("span", { class: "player-time" });
    this.presets = presetsFor(stems).map((name) =>
      button({ class: "player-preset", text: texts(`player.preset.${name}`), onclick: act(name), "data-preset": name }),
    );
    const help = button({ class: "player-help-open", text: "?", "aria-label": texts("player.keys"), onclick: act("help") });
    this.bar = element(
      "div",
      { class: "player-bar" },
      element("div", { class: "player-buttons" }, this.start, this.play, this.loop, this.time, help),
      element("div", { class: "player-presets", role: "group", "aria-label": texts("player.presets") }, ...this.presets),
    );
    this.more = this.#more(does);
    this.save = this.#save(does);
    this.status = element("p", { class: "player-status", role: "status" });
    this.hint = element("p", { class: "player-status" });
    this.said = element("div", { class: "player-said" }, this.status, this.hint);
    this.retry = button({ class: "player-retry", text: texts("player.retry"), hidden: true, onclick: act("retry") });
  }

  /** Show how the transport stands. */
  show({ state, place, length, loop, speed, semitones }) {
    const { texts } = this;
    const isOn = state !== "paused";
    const name = texts(isOn ? "player.pause" : "player.play");
    setIcon(this.#playIcon, isOn ? "pause" : "play");
    Object.assign(this.play, { ariaLabel: name, title: name });
    this.play.classList.toggle("is-waiting", state === "waiting");
    this.loop.ariaPressed = String(Boolean(loop));
    const repeated = loop && { start: clock(loop.start), end: clock(loop.end) };
    this.hint.textContent = repeated ? texts("player.hint.loop", repeated) : texts("player.hint");
    this.showTime(place, length);
    this.speed.value = Math.round(100 * speed);
    this.speedShown.textContent = texts("player.speed.value", { percent: Math.round(100 * speed) });
    this.pitch.value = semitones;
    this.pitchShown.textContent = texts("player.pitch.value", { semitones: `${semitones > 0 ? "+" : ""}${semitones}` });
  }

  /** Show which second is heard. */
  showTime(place, length) {
    const text = `${clock(place)} / ${clock(length)}`;
    if (this.time.textContent !== text) this.time.textContent = text;
  }

  /** Say what keeps the sound from coming, or nothing; with a button that tries again if that can help. */
  say(text, canRetry = false) {
    if (this.status.textContent !== text) this.status.textContent = text;
    this.retry.hidden = !canRetry;
    this.hint.hidden = Boolean(text);
  }

  /** Show which preset is heard, if one is. */
  showPreset(name) {
    for (const each of this.presets) each.ariaPressed = String(each.dataset.preset === name);
  }

  /** Show whether the mix can be saved, and whether it is being saved. */
  showExport({ isPossible, isOn }) {
    // A button that cannot be pressed any more loses the keyboard: it goes to the one that can, and back.
    const focused = document.activeElement;
    const next = isOn ? this.exports.includes(focused) && this.stop : focused === this.stop && this.#pressed;
    if (this.exports.includes(focused)) this.#pressed = focused;
    for (const each of this.exports) each.disabled = !isPossible || isOn;
    this.stop.hidden = !isOn;
    if (next) next.focus();
  }

  #more(does) {
    const { texts } = this;
    const slider = (name, least, most, step, change) => {
      this[name] = element("input", {
        type: "range",
        min: least,
        max: most,
        step,
        "aria-label": texts(`player.${name}`),
        oninput: (event) => change(event.target.valueAsNumber),
        ondblclick: () => change(name === "speed" ? 100 : 0),
      });
      this[`${name}Shown`] = element("output", { class: "player-value" });
      const label = element("span", { text: texts(`player.${name}`) });
      return element("label", { class: "player-setting" }, label, this[name], this[`${name}Shown`]);
    };
    this.countIn = element("input", { type: "checkbox" });
    this.countInLabel = element("label", { class: "player-setting", hidden: true }, this.countIn, texts("player.countIn"));
    return element(
      "details",
      { class: "player-more" },
      element("summary", { text: texts("player.more") }),
      slider("speed", 100 * SLOWEST, 100 * FASTEST, 5, (percent) => does.setSpeed(percent / 100)),
      slider("pitch", -MOST_SEMITONES, MOST_SEMITONES, 1, (semitones) => does.setPitch(semitones)),
      this.countInLabel,
    );
  }

  #save(does) {
    const { texts } = this;
    this.exports = ["wav", "flac"].map((format) =>
      button({ class: "player-export", text: texts(`player.export.${format}`), onclick: () => does.export(format) }),
    );
    this.stop = button({ text: texts("player.export.stop"), hidden: true, onclick: does.stop });
    this.exportNote = element("p", { class: "player-note", role: "status" });
    return element("div", { class: "player-save" }, ...this.exports, this.stop, this.exportNote);
  }
}

/** Samples that the keys ← and → go. */
export const STEP = 5 * RATE;
