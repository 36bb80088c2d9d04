// Pieces of what was decoded.

import { RATE } from "../units.js";

/** Return `length` samples of a buffer from `first` on as one of its own, with silence where it has none. */
export function cut(buffer, first, length) {
  const made = new AudioBuffer({ length, numberOfChannels: 2, sampleRate: RATE });
  for (const side of [0, 1]) {
    const samples = buffer.getChannelData(Math.min(side, buffer.numberOfChannels - 1));
    made.copyToChannel(samples.subarray(Math.max(0, first), Math.max(0, first + length)), side, Math.max(0, -first));
  }
  return made;
}
