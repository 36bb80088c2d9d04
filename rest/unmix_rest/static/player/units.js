// What the whole player counts in: samples of the song, at one rate everywhere. Only what files/ reads may have another.

import { clock as clockOfSeconds } from "../clock.js";

/** Hz; every stem is made in it, and the AudioContext runs at it. */
export const RATE = 44_100;

/** Return a number of samples as people say it: `3:05`, `1:02:03`. */
export const clock = (samples) => clockOfSeconds(samples / RATE);

/** Return `value`, or the end of the range that is nearest to it. */
export const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
