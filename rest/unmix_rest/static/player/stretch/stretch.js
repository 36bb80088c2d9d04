// Another speed or pitch: one node behind the mixer that shifts the pitch of what goes through it.
//
// Sources play faster or slower, which changes their pitch too, all by the same; the node takes that back and adds what is asked
// for. So the stems stay in step to the sample, and mute and volume work at once. The code of the node is that of
// signalsmith-stretch (README.md), and is loaded when somebody first asks for it.

import { RATE } from "../units.js";

const CODE = new URL("./signalsmith-stretch.js", import.meta.url);
const SEMITONES = 12;

/** What is behind a mixer while the speed or the pitch is not the song's. */
class Stretch {
  constructor(node, delaySeconds) {
    this.node = node;
    /** Frames by which sound comes out later than it went in. */
    this.delay = Math.round(delaySeconds * RATE);
  }

  /** Sound `semitones` higher than the song, whose sources play at `speed` from `frame` on. */
  set({ speed, semitones, frame }) {
    const output = (frame + this.delay) / RATE; // when what goes in at that frame comes out
    return this.node.schedule({
      active: true,
      semitones: semitones - SEMITONES * Math.log2(speed),
      tonalityHz: 0, // no limit to what is shifted: all that the sources have shifted has to be taken back
      output,
      outputTime: output,
    });
  }
}

/** Whether this browser can do it: pages that are neither https nor of this machine get no such nodes. */
export const canStretch = (context) => Boolean(context.audioWorklet);

/** The shortest WebAssembly that there is. */
const NOTHING = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

/** Fail where a policy forbids WebAssembly: the code of the node would say nothing there and never be ready. */
export const mayRun = () => WebAssembly.compile(NOTHING);

/** Load the node. */
export async function loadStretch(context) {
  await mayRun();
  const { default: make } = await import(CODE);
  make.moduleUrl = CODE;
  const node = await make(context, { numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [2] });
  return new Stretch(node, await node.latency());
}
