// All of a player that there is once there is sound: it connects what people do to what is heard, and shows both.

import { beatLength, countIn, nearestBeat } from "./beats.js";
import { Controls, FASTEST, SLOWEST, STEP } from "./controls.js";
import { exportMix } from "./export.js";
import { Graph } from "./graph.js";
import { keysDialog, listen } from "./keys.js";
import { Mix } from "./mix.js";
import { Mixer } from "./mixer.js";
import { applyPreset, presetOf } from "./presets.js";
import { Sound } from "./sound.js";
import { Tempo } from "./tempo.js";
import { Transport } from "./transport.js";
import { RATE, clamp } from "./units.js";
import { LEAST_LOOP, Waveform } from "./waveform.js";

/** Samples that a loop has if nothing was selected. */
const USUAL_LOOP = 8 * RATE;
/** Milliseconds between two pictures for people who want little to move. */
const CALM_MS = 500;
/** Milliseconds after which a clock that nobody needs is stopped. */
const REST_MS = 1000;

export class Desk {
  #graph = null;
  #over = new AbortController();
  #picture = 0;
  #shownAt = 0;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");
  #exporting = null;
  #resting = 0;

  /**
   * @param {HTMLElement} root takes everything
   * @param {import("./song.js").Song} song has a source
   */
  constructor(root, song, texts) {
    Object.assign(this, { song, texts });
    this.mix = new Mix(song.source.stems);
    this.sound = new Sound(song.source);
    this.transport = new Transport(this.sound, () => this.#openGraph(), () => this.tempo.apply());
    this.tempo = new Tempo(this.transport, () => this.#graph);
    this.mixer = new Mixer({ mix: this.mix, texts });
    this.waveform = new Waveform({
      ...{ peaks: song.peaks, mix: this.mix, texts },
      onSeek: (sample) => this.transport.seek(sample),
      onLoop: (start, end) => this.#loop(start, end),
    });
    this.controls = new Controls(this.mix.stems, texts, {
      act: (action) => this.act(action),
      setSpeed: (speed) => this.#setTempo({ speed }),
      setPitch: (semitones) => this.#setTempo({ semitones }),
      export: (format) => this.#export(format),
      stop: () => this.#exporting?.abort(),
    });
    const { bar, more, save, said, retry } = this.controls;
    this.help = keysDialog(texts);
    root.append(this.waveform.element, bar, said, retry, this.mixer.element, more, save, this.help);

    const { signal } = this.#over;
    const show = () => this.show();
    this.transport.addEventListener("change", () => this.#restSoon(), { signal });
    for (const told of [this.transport, this.tempo, this.sound, this.mix, song.peaks]) told.addEventListener("change", show, { signal });
    this.sound.addEventListener("gone", () => song.lookAgain(), { signal });
    listen({ act: (action, target) => this.act(action, target), stem: (index, what) => this.#toggleOf(index, what) }, signal);
    this.show();
  }

  /** Do what a key or a button asks for; `target` is where the keyboard was. */
  act(action, target = document.activeElement) {
    const { transport } = this;
    const place = transport.place;
    const row = this.mix.stems.indexOf(this.mixer.stemOf(target));
    const actions = {
      play: () => (transport.state === "paused" ? this.#play() : transport.pause()),
      start: () => transport.seek(0),
      back: () => transport.seek(place - STEP),
      forward: () => transport.seek(place + STEP),
      loop: () => (transport.loop ? transport.setLoop(null) : this.#loop(place, place + USUAL_LOOP)),
      loopStart: () => this.#loop(place, transport.loop?.end ?? this.sound.length),
      loopEnd: () => this.#loop(transport.loop?.start ?? 0, place),
      slower: () => this.#setTempo({ speed: this.tempo.speed - 0.05 }),
      faster: () => this.#setTempo({ speed: this.tempo.speed + 0.05 }),
      mute: () => this.#toggleOf(row, "muted"),
      solo: () => this.#toggleOf(row, "soloed"),
      help: () => this.help.showModal(),
      retry: () => this.sound.retry(),
    };
    if (actions[action]) actions[action]();
    else this.#preset(action);
  }

  /** Take over another source of the same song. */
  sourceChanged() {
    this.sound.setSource(this.song.source);
  }

  /** Show everything as it is. */
  show() {
    const { transport, controls, song, texts, tempo } = this;
    const { length } = this.sound;
    const { state, place, loop } = transport;
    controls.show({ state, place, length, loop, speed: tempo.speed, semitones: tempo.semitones });
    controls.countInLabel.hidden = !song.peaks.beats.length;
    controls.showExport({ isPossible: song.source.isWhole, isOn: Boolean(this.#exporting) });
    controls.showPreset(presetOf(this.mix, tempo.speed));
    controls.say(...this.#trouble(state));
    this.waveform.show(place, loop);
    if (state === "playing") this.#move();
    else this.mixer.showLevels(() => 0);
  }

  /** End everything. */
  close() {
    this.#over.abort();
    this.#exporting?.abort();
    cancelAnimationFrame(this.#picture);
    this.transport.close();
    clearTimeout(this.#resting);
    this.sound.close();
    this.mixer.close();
    this.waveform.close();
    this.#graph?.close();
  }

  /** Stop the clock of the sound when nobody has listened for a while, which spares a phone's battery. */
  #restSoon() {
    clearTimeout(this.#resting);
    if (this.transport.state === "paused" && this.#graph) this.#resting = setTimeout(() => this.#graph.suspend(), REST_MS);
  }

  #openGraph() {
    this.#graph = new Graph(this.mix);
    return this.#graph;
  }

  #play() {
    const beat = this.controls.countIn.checked ? beatLength(this.transport.place, this.song.peaks.beats) : 0;
    const frames = beat / this.tempo.speed;
    return this.transport.play((frame) => (beat ? countIn(this.#graph.context, frame, frames) : 0));
  }

  #loop(start, end) {
    const { beats } = this.song.peaks;
    const { length } = this.sound;
    const [from, to] = [start, end].map((sample) => Math.round(clamp(nearestBeat(sample, beats), 0, length)));
    // Beats that are further apart than what was selected would leave nothing of it.
    const [first, last] = to - from >= LEAST_LOOP ? [from, to] : [start, end].map((sample) => Math.round(clamp(sample, 0, length)));
    if (last - first >= LEAST_LOOP) this.transport.setLoop({ start: first, end: last });
  }

  #preset(name) {
    applyPreset(name, {
      mix: this.mix,
      setSpeed: (speed) => this.#setTempo({ speed, semitones: 0 }),
      loopHere: () => this.transport.loop ?? this.act("loop"),
      play: () => this.transport.state === "paused" && this.#play(),
    });
  }

  #setTempo({ speed = this.tempo.speed, semitones = this.tempo.semitones }) {
    return this.tempo.set({ speed: clamp(speed, SLOWEST, FASTEST), semitones });
  }

  #toggleOf(index, what) {
    const stem = this.mix.stems[index];
    if (stem) this.mix.set(stem, { [what]: !this.mix.of(stem)[what] });
  }

  /** Return what has to be said of the sound that does not come, and whether trying again can help. */
  #trouble(state) {
    const { sound, song, texts, tempo } = this;
    if (tempo.problem) return [texts(`player.tempo.${tempo.problem}`)];
    if (sound.problem) return [texts("player.problem", { reason: sound.problem.message }), true];
    if (state !== "waiting") return [""];
    if (sound.isMade(this.transport.place)) return [texts("player.loading")];
    return [texts(song.isBeingMade ? "player.beingMade" : "player.neverMade")];
  }

  #move() {
    this.#picture ||= requestAnimationFrame((now) => {
      this.#picture = 0;
      if (this.transport.state !== "playing") return;
      if (!this.#calm.matches || now - this.#shownAt > CALM_MS) {
        this.#shownAt = now;
        const { place, loop } = this.transport;
        this.waveform.show(place, loop);
        this.controls.showTime(place, this.sound.length);
        this.mixer.showLevels((stem) => this.#graph.level(stem));
      }
      this.#move();
    });
  }

  async #export(format) {
    const { texts, song, sound, controls } = this;
    const { speed, semitones } = this.tempo;
    const exporting = new AbortController();
    const { signal } = exporting;
    this.#exporting = exporting;
    this.show();
    try {
      const say = (share) => (controls.exportNote.textContent = texts("player.export.share", { percent: Math.floor(100 * share) }));
      say(0);
      const wanted = { format, speed, semitones };
      const { file, clipped } = await exportMix(song.source, this.mix, wanted, { decode: sound.decode, onProgress: say, signal });
      save(file, `${song.job.name ?? song.job.hash.slice(0, 8)} - mix${tempoOf(wanted)}.${format}`);
      controls.exportNote.textContent = clipped ? texts("player.export.clipped", { clipped }) : texts("player.export.done");
    } catch (error) {
      controls.exportNote.textContent = signal.aborted ? "" : texts("player.problem.export", { reason: error.message });
    } finally {
      this.#exporting = null;
      this.show();
    }
  }
}

/** Return what a file is called besides if its speed or pitch is another: ` (75 %, +2)`. */
function tempoOf({ speed, semitones }) {
  const said = [speed !== 1 && `${Math.round(100 * speed)} %`, semitones && `${semitones > 0 ? "+" : ""}${semitones}`].filter(Boolean);
  return said.length ? ` (${said.join(", ")})` : "";
}

function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
