// How samples of a file at another rate than the player's lie beside those of the player.
//
// A browser resamples what it decodes. So a slice of such a file is cut out of what was decoded of a little more on both
// sides, from a sample on that both rates share: slices meet without a click.

import { RATE } from "../units.js";

/** Samples on both sides of a slice: more than the filter of any browser reaches. */
const MARGIN = 1024;

/** Return what both numbers can be divided by. */
export const divisor = (one, other) => (other ? divisor(other, one % other) : one);

/** Return how to count in a file of so many samples a second; where it has the player's rate, nothing is read besides. */
export function clockOf(rate) {
  const margin = rate === RATE ? 0 : MARGIN;
  const own = (samples) => (samples * rate) / RATE;
  return {
    /** Samples of the file from one that both share to the next. */
    shared: rate / divisor(rate, RATE),
    /** Samples of the player that so many of the file last. */
    ours: (samples) => (samples * RATE) / rate,
    /** The place in the file before which nothing of a slice comes, and the one behind which nothing does. */
    reach: (start, end) => ({ first: Math.max(0, own(start) - margin), last: own(end) + margin }),
  };
}
