// What people most often want, with one click: each is a mix, and perhaps a speed.

/** Speed of *Practice*. */
const SLOW = 0.75;

/** Each with the stem that it needs, the stems that it mutes, and whether it is for practising. */
const PRESETS = [
  { name: "all", muted: [] },
  { name: "karaoke", needs: "vocals", muted: ["vocals"] },
  { name: "acappella", needs: "vocals", muted: null },
  { name: "drumless", needs: "drums", muted: ["drums"] },
  { name: "practice", muted: [], isPractice: true },
];

/** Return the names of the presets that make sense with these stems. */
export function presetsFor(stems) {
  return PRESETS.filter(({ needs }) => !needs || (stems.includes(needs) && stems.length > 1)).map(({ name }) => name);
}

/** Return the name of the preset that is heard, undefined if none is. */
export function presetOf(mix, speed) {
  const isHeard = (preset) => mix.hasOnlyMuted(mutedBy(preset, mix)) && Boolean(preset.isPractice) === (speed === SLOW);
  return PRESETS.find(isHeard)?.name;
}

const mutedBy = ({ muted, needs }, mix) => muted ?? mix.stems.filter((stem) => stem !== needs);

/**
 * Set everything as a preset has it, and play.
 *
 * @param {string} name
 * @param {{mix: import("./mix.js").Mix, setSpeed: (speed: number) => void, loopHere: () => void, play: () => void}} player
 */
export function applyPreset(name, { mix, setSpeed, loopHere, play }) {
  const preset = PRESETS.find((each) => each.name === name);
  if (!preset) return;
  mix.reset(mutedBy(preset, mix));
  setSpeed(preset.isPractice ? SLOW : 1);
  if (preset.isPractice) loopHere();
  play();
}
