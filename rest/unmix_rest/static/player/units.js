// What the whole player counts in: samples of the song, at one rate everywhere, so that nothing is ever resampled.

/** Hz; every stem is delivered in it, and the AudioContext runs at it. */
export const RATE = 44_100;

/** Return a number of samples as people say it: `3:05`, `1:02:03`. */
export function clock(samples) {
  const whole = Math.floor(Math.max(0, samples) / RATE);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Return `value`, or the end of the range that is nearest to it. */
export const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
