// Bits one after the other, as codes have them that are no whole number of bytes.

/** Return the check of `width` bits that FLAC has behind what `bytes` are. */
export function crc(bytes, width, polynomial) {
  const [top, mask] = [2 ** (width - 1), 2 ** width - 1];
  let value = 0;
  for (const byte of bytes) {
    value ^= byte << (width - 8);
    for (let bit = 0; bit < 8; bit += 1) value = (value & top ? (value << 1) ^ polynomial : value << 1) & mask;
  }
  return value;
}

/** Bits one after the other; those that nobody puts are 0. */
export class Bits {
  #length = 0;

  constructor(size) {
    this.data = new Uint8Array(size);
  }

  put(value, count) {
    for (let left = count; left > 0; ) {
      const room = 8 - (this.#length & 7);
      const taken = Math.min(room, left);
      left -= taken;
      this.data[this.#length >> 3] |= ((value >>> left) & (2 ** taken - 1)) << (room - taken);
      this.#length += taken;
    }
  }

  skip(count) {
    this.#length += count;
  }

  align() {
    this.#length = (this.#length + 7) & ~7;
  }

  bytes(count = this.#length >> 3) {
    return this.data.subarray(0, count);
  }
}
