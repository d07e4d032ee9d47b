/**
 * Real images in small numbers, and a recipe to train on them here and by the command.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

/** Where Debian's package puts Fashion-MNIST. */
const FOLDER = '/usr/share/datasets/fashion-mnist';
/** Pixels a side. */
const SIDE = 28;

/** Bytes of an idx file behind so long a header. @param {string} name @param {number} head */
function idx(name, head) {
  const file = path.join(FOLDER, `${name}.gz`);
  if (!existsSync(file)) throw new Error(`${file} is missing: run \`make setup\`, which installs Fashion-MNIST`);
  return gunzipSync(readFileSync(file)).subarray(head);
}

/** The first images of a part, with their classes. @param {'train' | 't10k'} part @param {number} count */
export function fashion(part, count) {
  return {
    levels: idx(`${part}-images-idx3-ubyte`, 16).subarray(0, count * SIDE ** 2),
    labels: [...idx(`${part}-labels-idx1-ubyte`, 8).subarray(0, count)],
  };
}

/** Images at half the size: the mean of four pixels each. @param {{ levels: Uint8Array, labels: number[] }} images */
export function halved({ levels, labels }) {
  const half = SIDE / 2;
  const at = (/** @type {number} */ i) => 2 * (i % half) + 2 * SIDE * Math.floor(i / half);
  const small = Uint8Array.from({ length: levels.length / 4 }, (_, i) => {
    const first = Math.floor(i / half ** 2) * SIDE ** 2 + at(i % half ** 2);
    return (levels[first] + levels[first + 1] + levels[first + SIDE] + levels[first + SIDE + 1]) / 4;
  });
  return { levels: small, labels };
}

/** Numbers as an idx file begins with them. @param {number[]} numbers */
function header(numbers) {
  const bytes = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, i) => bytes.writeUInt32BE(number, 4 * i));
  return bytes;
}

/** The idx files of images. @param {string} part @param {{ levels: Uint8Array, labels: number[] }} images @returns {[string, Buffer][]} */
export function idxFiles(part, { levels, labels }) {
  const side = Math.sqrt(levels.length / labels.length);
  return [
    [`${part}-images-idx3-ubyte`, Buffer.concat([header([0x0803, labels.length, side, side]), levels])],
    [`${part}-labels-idx1-ubyte`, Buffer.concat([header([0x0801, labels.length]), Buffer.from(labels)])],
  ];
}

/** Writes the idx files of images to train and to test on. @param {string} folder @param {Record<string, { levels: Uint8Array, labels: number[] }>} parts */
export function writeIdx(folder, parts) {
  mkdirSync(folder, { recursive: true });
  for (const [part, images] of Object.entries(parts)) {
    for (const [name, bytes] of idxFiles(part, images)) writeFileSync(path.join(folder, name), bytes);
  }
}

/** A recipe as the command reads it. @param {Record<string, Record<string, unknown>>} recipe */
export function toml(recipe) {
  /** @param {unknown} value */
  const text = (value) => (typeof value === 'number' && !Number.isInteger(value) ? String(value) : JSON.stringify(value));
  return Object.entries(recipe)
    .map(([name, fields]) => `[${name}]\n${Object.entries(fields).map(([key, value]) => `${key} = ${text(value)}\n`).join('')}`)
    .join('');
}
