/**
 * The generator of the golden data and the numbers it keeps of each tensor; the same for node and for test pages.
 * Described with the fixtures: SplitMix64 of the name's FNV-1a hash.
 */

/** Words of 32 bits: JavaScript's own 64-bit numbers are too slow for millions of values. */
const MASK = 0xffffffffn;

/** @param {string} name @returns {[number, number]} high and low word */
function hash(name) {
  let h = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(name)) {
    h = BigInt.asUintN(64, (h ^ BigInt(byte)) * 0x100000001b3n);
  }
  return [Number(h >> 32n), Number(h & MASK)];
}

/** High word of the product of two words. @param {number} a @param {number} b */
function multiplyHigh(a, b) {
  const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const low = a0 * b0;
  const middle = a1 * b0 + (low >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  return (a1 * b1 + Math.floor(middle / 65536) + Math.floor(other / 65536)) >>> 0;
}

/**
 * Numbers of a name: uniform in 0..1 with 24 bits.
 * @param {string} name
 * @returns {(i: number) => number}
 */
export function generator(name) {
  const [nameHigh, nameLow] = hash(name);
  let [high, low] = [0, 0];
  /** Multiplies the state by a constant modulo 2⁶⁴. */
  const multiply = (/** @type {number} */ h, /** @type {number} */ l) => {
    const top = (multiplyHigh(low, l) + Math.imul(low, h) + Math.imul(high, l)) >>> 0;
    low = Math.imul(low, l) >>> 0;
    high = top;
  };
  /** state ^= state >> bits, for bits < 32 */
  const shift = (/** @type {number} */ bits) => {
    low = (low ^ ((low >>> bits) | (high << (32 - bits)))) >>> 0;
    high = (high ^ (high >>> bits)) >>> 0;
  };
  return (i) => {
    [high, low] = [0, i + 1];
    multiply(0x9e3779b9, 0x7f4a7c15);
    const sum = low + nameLow;
    high = (high + nameHigh + (sum > 0xffffffff ? 1 : 0)) >>> 0;
    low = sum >>> 0;
    shift(30);
    multiply(0xbf58476d, 0x1ce4e5b9);
    shift(27);
    multiply(0x94d049bb, 0x133111eb);
    shift(31);
    return (high >>> 8) / 16777216;
  };
}

/** Symmetric numbers in −1..1 of a name. @param {string} name @returns {(i: number) => number} */
export function symmetric(name) {
  const uniform = generator(name);
  return (i) => 2 * uniform(i) - 1;
}

/**
 * Values of a parameter by the fixtures' formula, every operation rounded to f32.
 * @param {string} prefix
 * @param {string} name
 * @param {number[]} shape
 */
export function formula(prefix, name, shape) {
  const f = Math.fround;
  const uniform = generator(prefix + name);
  const s = (/** @type {number} */ i) => 2 * uniform(i) - 1;
  const last = name.slice(name.lastIndexOf('.') + 1);
  const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
  const bound = f(1 / Math.sqrt(fanIn));
  const [tenth, twentieth] = [f(0.1), f(0.05)];
  /** @type {Record<string, (i: number) => number>} */
  const values = {
    running_mean: (i) => f(tenth * s(i)),
    running_var: (i) => f(1 + f(0.5 * uniform(i))),
    bias: (i) => f(s(i) * twentieth),
    weight: shape.length === 1 ? (i) => f(1 + f(tenth * s(i))) : (i) => f(s(i) * bound),
  };
  const value = values[last];
  if (value === undefined) throw new Error(`no formula for ${name}`);
  const count = shape.reduce((a, b) => a * b, 1);
  return Float32Array.from({ length: count }, (_, i) => value(i));
}

/** Numbers kept of each tensor. */
export const COLUMNS = 11;

/**
 * What the fixtures keep of a tensor: L2 norm, sum, dot product with its probe, first 8 values.
 * @param {string} name
 * @param {Float32Array} data
 * @returns {number[]}
 */
export function summary(name, data) {
  const probe = symmetric(`probe.${name}`);
  let [squares, sum, dot] = [0, 0, 0];
  for (let i = 0; i < data.length; i += 1) {
    squares += data[i] * data[i];
    sum += data[i];
    dot += data[i] * probe(i);
  }
  const row = [Math.sqrt(squares), sum, dot, ...data.subarray(0, COLUMNS - 3)];
  return row.concat(Array(COLUMNS - row.length).fill(0));
}
