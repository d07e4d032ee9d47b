/**
 * Values on their way between the tests and a page: JSON that keeps typed arrays to the bit, `undefined`, NaN, infinities
 * and minus zero. Functions of the tests run in pages by their text, which is compiled outside of the page: a strict
 * policy forbids it `eval`.
 */

import { runInThisContext } from 'node:vm';

/** A value as text. Runs on both sides, so it uses what both have. @param {unknown} value */
export function pack(value) {
  return JSON.stringify(value, function replace(key, plain) {
    const raw = this[key];
    if (raw === undefined) return { $: 'undefined' };
    if (typeof raw === 'number' && (!Number.isFinite(raw) || Object.is(raw, -0))) {
      return { $: 'number', text: Object.is(raw, -0) ? '-0' : String(raw) };
    }
    if (!ArrayBuffer.isView(raw)) return plain;
    const bytes = new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);
    let text = '';
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return { $: 'array', kind: raw[Symbol.toStringTag], bytes: btoa(text) };
  });
}

/** The value of a text of `pack`. @param {string} text */
export function unpack(text) {
  const restore = (value) => {
    if (value === null || typeof value !== 'object') return value;
    if (Array.isArray(value)) return value.map(restore);
    if (value.$ === 'undefined') return undefined;
    if (value.$ === 'number') return Number(value.text);
    if (value.$ === 'array') {
      const bytes = Uint8Array.from(atob(value.bytes), (letter) => letter.charCodeAt(0));
      return new globalThis[value.kind](bytes.buffer);
    }
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, restore(one)]));
  };
  return restore(JSON.parse(text));
}

/**
 * A function for the driver that calls `body` in the page with handles and an argument, and answers in text.
 * @param {Function} body
 */
function carried(body) {
  return runInThisContext(`(async (text, ...handles) => {
    const pack = ${pack};
    const unpack = ${unpack};
    try {
      return pack({ answer: await (${body})(...handles, unpack(text)) });
    } catch (error) {
      const { name, message, stack } = error instanceof Error ? error : { name: 'thrown', message: JSON.stringify(error) };
      return pack({ failed: true, name, message, stack });
    }
  })`);
}

/**
 * Runs a function in a page and answers what it answers. What is thrown there is thrown here; anything else that is thrown
 * is the driver's: a page that is gone, or on its way to another.
 * @param {{ evaluate: (body: any, ...words: any[]) => Promise<any> }} tab
 * @param {Function} body gets the handles, then the argument
 * @param {unknown} argument
 * @param {unknown[]} [handles]
 */
export async function call(tab, body, argument, handles = []) {
  const text = await tab.evaluate(carried(body), pack(argument), ...handles).catch((error) => {
    throw new Unreached(error);
  });
  const { answer, failed, name, message, stack } = unpack(text);
  if (!failed) return answer;
  const error = new Error(message);
  error.name = name;
  error.stack = `${name}: ${message}\n  in the page: ${stack}`;
  throw error;
}

/** A page was not there to be asked: it is closed, crashed, or on its way to another. */
export class Unreached extends Error {
  /** @param {Error} cause */
  constructor(cause) {
    super(cause.message, { cause });
    this.name = 'Unreached';
  }
}
