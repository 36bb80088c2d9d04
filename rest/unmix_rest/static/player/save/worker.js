// Makes a file of a mix, piece by piece, beside the page, which goes on to play meanwhile: changes its speed and pitch, rounds
// it to 16 bits, and writes it. Told first `{format, length, speed, semitones}`, then `{sums, isLast}` again and again, the sums of
// both sides in steps of 16 bits; answers each with `{piece, clipped}` or `{problem}`.

import { FlacWriter } from "./flac.js";
import { WavWriter } from "./wav.js";

const WRITERS = { flac: FlacWriter, wav: WavWriter };
const LOWEST = -0x8000;
const HIGHEST = 0x7fff;

let writer = null;
let stretch = null; // null for a song as it is

async function begin({ format, length, speed, semitones }) {
  const isPlain = speed === 1 && semitones === 0;
  if (!isPlain) {
    const { FileStretch } = await import("../stretch/file.js"); // with what it needs, a hundred kB
    stretch = await FileStretch.load({ length, speed, semitones });
  }
  writer = new WRITERS[format](stretch ? stretch.length : length);
  return { piece: writer.head(), clipped: 0 };
}

function add(sums, isLast) {
  const { samples, clipped } = rounded(stretch ? stretch.add(sums, isLast) : sums);
  return { piece: writer.add(samples, isLast), clipped };
}

function rounded(sums) {
  let clipped = 0;
  const samples = sums.map((sum) =>
    Int16Array.from(sum, (value) => {
      const whole = Math.round(value);
      const inside = Math.min(Math.max(whole, LOWEST), HIGHEST);
      if (inside !== whole) clipped += 1;
      return inside;
    }),
  );
  return { samples, clipped };
}

onmessage = async ({ data }) => {
  try {
    postMessage(data.format ? await begin(data) : add(data.sums, data.isLast));
  } catch (error) {
    postMessage({ problem: error.message });
  }
};
