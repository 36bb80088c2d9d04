// The mix as it is set, as a file of 16 bits: each sample is the sum of the stems times their gains, rounded; at another speed
// or pitch that sum goes through the same stretch as what is heard.
//
// Relied on: browsers make sample n of 16 bits n / 32768, but for Chromium, which divides positive ones by 32767. Which it
// was shows in the samples; so what was a whole number is one again.
//
// It is made window by window, each of which goes into a Blob of its own that the browser may keep on disk: so the memory it
// takes is that of one window, however long the song.

/** Of 16 bits. */
const LOWEST = -0x8000;
const HIGHEST = 0x7fff;

/**
 * Mix a song, and return the file and how many samples of it were beyond full scale, and clipped.
 *
 * @param {object} source what parts.js or stems.js make; all of it has been made
 * @param {import("./mix.js").Mix} mix
 * @param {{format: "wav" | "flac", speed: number, semitones: number}} wanted
 * @param {{decode: Function, onProgress: (share: number) => void, signal: AbortSignal}} options
 */
export async function exportMix(source, mix, wanted, { decode, onProgress, signal }) {
  const gains = new Map(mix.stems.map((stem) => [stem, mix.gains(stem)]).filter(([, [left, right]]) => left || right));
  const bench = new Bench(signal);
  try {
    const pieces = [];
    let clipped = 0;
    const take = (made) => {
      pieces.push(new Blob([made.piece]));
      clipped += made.clipped;
    };
    take(await bench.ask({ ...wanted, length: source.length }));
    for (let start = 0, index = 0; start < source.length; index += 1) {
      signal.throwIfAborted();
      const { end } = source.span(index);
      const sums = [0, 1].map(() => new Float64Array(end - start));
      for (const [stem, sides] of gains) {
        const buffer = await source.load(index, stem, decode, signal);
        sums.forEach((sum, side) => add(sum, buffer.getChannelData(side), sides[side]));
      }
      take(await bench.ask({ sums, isLast: end === source.length }, sums.map(({ buffer }) => buffer)));
      start = end;
      onProgress(end / source.length);
    }
    return { file: new Blob(pieces, { type: `audio/${wanted.format}` }), clipped };
  } finally {
    bench.close();
  }
}

/** The worker that makes the file (save/worker.js), asked one thing after the other. */
class Bench {
  #worker = new Worker(new URL("./save/worker.js", import.meta.url), { type: "module" });
  #fail = () => {};

  constructor(signal) {
    signal.addEventListener("abort", () => this.#fail(signal.reason));
    this.#worker.onerror = () => this.#fail(new Error("a file of this page is missing"));
  }

  ask(question, transfer = []) {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#worker.onmessage = ({ data }) => (data.problem ? reject(new Error(data.problem)) : resolve(data));
      this.#worker.postMessage(question, transfer);
    });
  }

  close() {
    this.#worker.terminate();
  }
}

/** Add samples to a sum that counts in steps of 16 bits. */
function add(sum, samples, gain) {
  const length = Math.min(sum.length, samples.length);
  const isWhole = (sample) => Math.abs(sample * HIGHEST - Math.round(sample * HIGHEST)) < 0.02;
  const upwards = samples.every((sample) => sample <= 0 || isWhole(sample)) ? HIGHEST : -LOWEST;
  for (let index = 0; index < length; index += 1) {
    const sample = samples[index];
    sum[index] += gain * sample * (sample > 0 ? upwards : -LOWEST);
  }
}
