/** The idx files of MNIST and its relatives: a magic number, counts, then bytes; plain or packed by gzip. */

import { PageError } from './messages';

/** Images of grey levels, or labels. */
export interface Idx {
  /** The file's name. */
  name: string;
  kind: 'images' | 'labels';
  count: number;
  /** Of images: their size in pixels. */
  height: number;
  width: number;
  /** The bytes behind the header. */
  data: Uint8Array;
}

/** Magic numbers: bytes of three dimensions, and of one. */
const KINDS = new Map<number, Idx['kind']>([
  [0x0803, 'images'],
  [0x0801, 'labels'],
]);
/** More than that is no test set for a page. */
const MOST_BYTES = 1 << 30;

/** Whether a file is packed, by its first bytes. */
async function isPacked(file: File): Promise<boolean> {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  return first === 0x1f && second === 0x8b;
}

/** A file's bytes, unpacked, until `enough` of those so far says so. */
async function unpacked(file: File, enough: (length: number, start: Uint8Array) => boolean): Promise<Uint8Array> {
  const packed = await isPacked(file);
  const stream: ReadableStream<Uint8Array> = packed
    ? file.stream().pipeThrough(new DecompressionStream('gzip') as ReadableWritablePair<Uint8Array, Uint8Array<ArrayBuffer>>)
    : file.stream();
  const reader = stream.getReader();
  const parts: Uint8Array[] = [];
  let [length, start] = [0, new Uint8Array()];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      length += value.length;
      if (start.length < 16) start = joined(parts, Math.min(16, length));
      if (enough(length, start)) break;
    }
  } catch (error) {
    if (!packed) throw error;
    throw new PageError(`${file.name} is packed, and damaged: ${error instanceof Error ? error.message : String(error)}`);
  }
  reader.cancel().catch(() => undefined);
  return joined(parts, length);
}

/** The first bytes of parts as one. */
function joined(parts: Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part.subarray(0, length - at), at);
    at = Math.min(length, at + part.length);
  }
  return all;
}

/** What a file's header announces; nothing where it is no idx file. */
function header(bytes: Uint8Array): Omit<Idx, 'name' | 'data'> & { bytes: number; head: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = bytes.length >= 8 ? KINDS.get(view.getUint32(0)) : undefined;
  if (!kind || (kind === 'images' && bytes.length < 16)) return undefined;
  const count = view.getUint32(4);
  const [height, width] = kind === 'images' ? [view.getUint32(8), view.getUint32(12)] : [1, 1];
  return { kind, count, height, width, bytes: count * height * width, head: kind === 'images' ? 16 : 8 };
}

/** Whether a file begins as an idx file does. */
export async function isIdx(file: File): Promise<boolean> {
  try {
    return header(await unpacked(file, (length) => length >= 16)) !== undefined;
  } catch {
    // What cannot be unpacked is said to be so by its name.
    return /idx[13]-ubyte/i.test(file.name);
  }
}

/** Reads an idx file. */
export async function readIdx(file: File): Promise<Idx> {
  // No more is unpacked than was announced, and a byte.
  const all = await unpacked(file, (length, start) => {
    const told = header(start);
    return length >= 16 && (!told || length > Math.min(told.bytes, MOST_BYTES) + told.head);
  });
  const told = header(all);
  if (!told) throw new PageError(`${file.name} is no idx file of images or labels.`);
  const { kind, count, height, width, bytes, head } = told;
  const what = kind === 'images' ? `${count.toLocaleString('en')} images of ${height}×${width}` : `${count.toLocaleString('en')} labels`;
  if (bytes === 0) throw new PageError(`${file.name} announces ${what}: there is nothing in it.`);
  if (bytes > MOST_BYTES) throw new PageError(`${file.name} announces ${what}, which is too much for a page.`);
  if (all.length !== head + bytes) {
    const than = all.length < head + bytes ? 'ends before that' : 'goes on behind them';
    throw new PageError(`${file.name} announces ${what} and ${than}: it is damaged.`);
  }
  return { name: file.name, kind, count, height, width, data: all.subarray(head) };
}

/** An image of an idx file as a picture. */
export function idxPicture({ data, width, height }: Idx, number: number): ImageData {
  const pixels = width * height;
  const picture = new ImageData(width, height);
  const levels = data.subarray(number * pixels, (number + 1) * pixels);
  levels.forEach((level, i) => picture.data.set([level, level, level, 255], 4 * i));
  return picture;
}
