// Passes on every sample that it is given, in blocks.

const BLOCK = 4096;

class Recorder extends AudioWorkletProcessor {
  left = new Float32Array(BLOCK);
  right = new Float32Array(BLOCK);
  filled = 0;

  process([input]) {
    const quantum = 128;
    if (input.length) {
      this.left.set(input[0], this.filled);
      this.right.set(input[1] ?? input[0], this.filled);
    } else {
      this.left.fill(0, this.filled, this.filled + quantum);
      this.right.fill(0, this.filled, this.filled + quantum);
    }
    this.filled += quantum;
    if (this.filled === BLOCK) {
      this.port.postMessage({ left: this.left.slice(), right: this.right.slice() });
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
