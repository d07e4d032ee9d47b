/**
 * What a picture file's bytes say before anything decodes it: its kind, its size, and whether it ends early or is damaged.
 * Browsers decode what there is of a picture that broke off and leave the rest grey, without a word, some of them also of one whose
 * check sums are wrong; and they unpack whatever size a header asks for.
 * @module
 */
import { BadInputError, messageOf } from './errors.js';

/** Most pixels of a picture, in millions: the largest cameras have as many. The command's limit, too. */
const MOST_MEGAPIXELS = 200;
/** The longest file that is read, in bytes. */
const LONGEST = 2 ** 30;

/** Width and height in pixels, and whether the data go on to their end, and are those that were written where the file can tell. */
interface Header {
  width: number;
  height: number;
  whole: boolean;
  damaged?: boolean;
}

/** Reads a header where the file is of this kind. */
type Reader = (bytes: Uint8Array, view: DataView) => Header | undefined;

/** Whether the bytes at a place are these letters. */
function letters(bytes: Uint8Array, at: number, text: string): boolean {
  return [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));
}

/** The table of the check sum that PNG and gzip have (CRC-32, polynomial 0xedb88320). */
let crcTable: Uint32Array | undefined;

/** The check sum of bytes. */
function crc32(bytes: Uint8Array): number {
  crcTable ??= Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    return value;
  });
  let sum = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) sum = crcTable[(sum ^ bytes[i]!) & 0xff]! ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

const png: Reader = (bytes, view) => {
  if (!letters(bytes, 0, '\x89PNG\r\n\x1a\n')) return undefined;
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  // Chunks follow one another: length, name, data, check sum.
  let [at, damaged] = [8, false];
  while (at + 8 <= bytes.length && !letters(bytes, at + 4, 'IEND')) {
    const end = at + 8 + view.getUint32(at);
    // Parts that a small letter begins can be done without.
    const needed = !(bytes[at + 4]! & 0x20);
    if (needed && end + 4 <= bytes.length) damaged ||= crc32(bytes.subarray(at + 4, end)) !== view.getUint32(end);
    at = end + 4;
  }
  return { width, height, whole: at + 8 <= bytes.length, damaged };
};

/** Markers without a length: padding, TEM, restarts and the start of an image. */
function alone(marker: number): boolean {
  return marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd8);
}

/** Markers of a frame: its header holds the picture's size. */
function frame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
}

const jpeg: Reader = (bytes, view) => {
  if (!letters(bytes, 0, '\xff\xd8\xff')) return undefined;
  const header = { width: 0, height: 0, whole: false };
  let scans = 0;
  // From marker to marker; what lies between a scan's header and the next marker is the picture.
  for (let at = 2; (at = bytes.indexOf(0xff, at)) >= 0 && at + 1 < bytes.length; ) {
    const marker = bytes[at + 1]!;
    if (marker === 0xff) {
      at += 1;
    } else if (alone(marker)) {
      at += 2;
    } else if (marker === 0xd9) {
      return { ...header, whole: scans > 0 };
    } else {
      if (at + 9 > bytes.length) break;
      if (frame(marker)) [header.height, header.width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
      if (marker === 0xda) scans += 1;
      at += 2 + view.getUint16(at + 2);
    }
  }
  return header;
};

const gif: Reader = (bytes, view) => {
  if (!letters(bytes, 0, 'GIF8')) return undefined;
  const [width, height] = [view.getUint16(6, true), view.getUint16(8, true)];
  const colours = (flags: number): number => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  // A block's parts tell their lengths; one of none ends it.
  const parts = (from: number): number => {
    let at = from;
    while (bytes[at]) at += 1 + bytes[at]!;
    return at + 1;
  };
  let at = 13 + colours(bytes[10]!);
  while (bytes[at] === 0x21) at = parts(at + 2);
  if (bytes[at] !== 0x2c) return { width, height, whole: false };
  // The first picture is the one that is shown.
  at = parts(at + 11 + colours(bytes[at + 9] ?? 0));
  return { width, height, whole: at <= bytes.length };
};

const webp: Reader = (bytes, view) => {
  if (!letters(bytes, 0, 'RIFF') || !letters(bytes, 8, 'WEBP')) return undefined;
  const whole = view.getUint32(4, true) + 8 <= bytes.length;
  if (letters(bytes, 12, 'VP8X')) {
    const side = (at: number): number => 1 + (view.getUint32(at, true) & 0xffffff);
    return { width: side(24), height: side(27), whole };
  }
  if (letters(bytes, 12, 'VP8L')) {
    const packed = view.getUint32(21, true);
    return { width: 1 + (packed & 0x3fff), height: 1 + ((packed >>> 14) & 0x3fff), whole };
  }
  return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff, whole };
};

const bmp: Reader = (bytes, view) => {
  // Two letters are few: the length of the header that follows must be one that there is.
  const lengths = [12, 16, 40, 52, 56, 64, 108, 124];
  if (!letters(bytes, 0, 'BM') || !lengths.includes(view.getUint32(14, true))) return undefined;
  const old = view.getUint32(14, true) === 12;
  const width = old ? view.getUint16(18, true) : view.getInt32(18, true);
  // Rows from top to bottom have a height below zero.
  const height = Math.abs(old ? view.getInt16(20, true) : view.getInt32(22, true));
  const bits = view.getUint16(old ? 24 : 28, true);
  const packed = !old && ![0, 3, 6].includes(view.getUint32(30, true));
  const needed = packed ? 0 : 4 * Math.ceil((width * bits) / 32) * height;
  return { width, height, whole: view.getUint32(10, true) + needed <= bytes.length };
};

/** AVIF and, where a browser reads it, HEIC. */
const avif: Reader = (bytes, view) => {
  if (!letters(bytes, 4, 'ftyp')) return undefined;
  const header = { width: 0, height: 0, whole: true };
  // The size of the picture, and of the tiles it is made of: the largest is the picture's.
  for (let at = 8; (at = bytes.indexOf(0x69, at)) >= 0 && at + 16 <= bytes.length; at += 1) {
    if (!letters(bytes, at, 'ispe')) continue;
    header.width = Math.max(header.width, view.getUint32(at + 8));
    header.height = Math.max(header.height, view.getUint32(at + 12));
  }
  return header;
};

const READERS: Reader[] = [png, jpeg, gif, webp, bmp, avif];
/** As many bytes as tell the kind of a file. */
const SIGNATURE = 64;

/** Refuses pictures that no memory holds. */
export function checkSize(name: string, width: number, height: number): void {
  if (!(width > 0 && height > 0)) throw new BadInputError(`${name} is empty: it has ${width}×${height} pixels`);
  const megapixels = (width * height) / 1e6;
  if (megapixels > MOST_MEGAPIXELS) {
    throw new BadInputError(
      `${name} has ${width}×${height} pixels, ${Math.floor(megapixels)} megapixels; ` +
        `pictures of up to ${MOST_MEGAPIXELS} megapixels are read`,
    );
  }
}

/** Whether bytes begin as those of a picture file do. */
export function isPictureFile(bytes: Uint8Array | Uint8ClampedArray): boolean {
  const start = new Uint8Array(SIGNATURE);
  start.set(bytes.subarray(0, SIGNATURE));
  return READERS.some((one) => one(start, new DataView(start.buffer)) !== undefined);
}

/** A file's name for messages. */
export function nameOf(file: Blob): string {
  return ('name' in file && typeof file.name === 'string' && file.name) || 'the picture';
}

/**
 * The bytes of a picture file, once its kind is known, its size fits and nothing is missing at its end.
 *
 * @throws {@link BadInputError} saying which of them is not so.
 */
export async function checkedBytes(file: Blob): Promise<Uint8Array> {
  const name = nameOf(file);
  const read = async (part: Blob): Promise<Uint8Array> => {
    try {
      return new Uint8Array(await part.arrayBuffer());
    } catch (error) {
      throw new BadInputError(`${name} cannot be read: ${messageOf(error)}`);
    }
  };
  if (file.size === 0) throw new BadInputError(`${name} is empty: it has 0 bytes`);
  // A film of gigabytes is told from a picture by its first bytes.
  const start = new Uint8Array(SIGNATURE);
  start.set(await read(file.slice(0, SIGNATURE)));
  const reader = READERS.find((one) => one(start, new DataView(start.buffer)));
  if (!reader) {
    throw new BadInputError(`${name} is no picture: PNG, JPEG, WebP, GIF, BMP and AVIF files are read`);
  }
  if (file.size > LONGEST) {
    throw new BadInputError(`${name} has ${file.size} bytes; pictures of up to ${LONGEST} bytes are read`);
  }
  const bytes = await read(file);
  let header: Header | undefined;
  try {
    header = reader(bytes, new DataView(bytes.buffer));
  } catch {
    // The header itself is cut.
  }
  if (header && header.width > 0) checkSize(name, header.width, header.height);
  if (!header?.whole) throw new BadInputError(`${name} is incomplete: its data end early`);
  if (header.damaged) throw new BadInputError(`${name} is damaged: its check sums are not those of its data`);
  return bytes;
}
