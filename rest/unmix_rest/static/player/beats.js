// What can be done once the beats of a song are known: loops that begin and end on one, and a count-in before it plays.

import { RATE } from "./units.js";

/** Beats that are counted before the song. */
const COUNTED = 4;
/** Seconds of a click. */
const CLICK_SECONDS = 0.04;

/** Return the beat that is nearest to a sample; the sample itself where no beats are known. */
export function nearestBeat(sample, beats) {
  return beats.reduce((best, beat) => (Math.abs(beat - sample) < Math.abs(best - sample) ? beat : best), beats[0] ?? sample);
}

/** Return the samples between two beats around `sample`, 0 if nobody knows. */
export function beatLength(sample, beats) {
  if (beats.length < 2) return 0;
  const after = beats.findIndex((beat) => beat > sample);
  const index = after < 1 ? (after < 0 ? beats.length - 1 : 1) : after;
  return beats[index] - beats[index - 1];
}

/** Click the beats before a song from `frame` on, and return how many frames that takes. */
export function countIn(context, frame, beatFrames) {
  for (let beat = 0; beat < COUNTED; beat += 1) {
    const begin = (frame + beat * beatFrames) / RATE;
    const tone = new OscillatorNode(context, { frequency: beat ? 1000 : 1500 });
    const gain = new GainNode(context, { gain: 0 });
    gain.gain.setValueAtTime(0.4, begin);
    gain.gain.exponentialRampToValueAtTime(0.001, begin + CLICK_SECONDS);
    tone.connect(gain).connect(context.destination);
    tone.start(begin);
    tone.stop(begin + CLICK_SECONDS);
  }
  return Math.round(COUNTED * beatFrames);
}
