/** Images of a new model as bytes: read once, split, and kept beside the training. */

import { trainings } from 'duet-diffusion';
import type { DuetModel, LabelledImages } from 'duet-diffusion';
import { plural } from '../format';
import type { Item } from '../test-set';
import type { Chosen } from './classes';

/** Of so many images one is held out, to look at. */
const ONE_OF = 10;
/** Most held-out images. */
const MOST_HELD_OUT = 500;

/** Levels and classes. */
export interface Bytes extends LabelledImages {
  images: Uint8Array;
  labels: Uint32Array;
}

/** What a model is trained on, and what it is looked at with. */
export interface Split {
  train: Bytes;
  heldOut: Bytes | undefined;
  /** Names of the classes. */
  names: string[];
  /** Where they come from. */
  set: string;
}

/** The levels of idx files whose images are of the model's size already; nothing where they have to be read. */
function direct(items: Item[], pixels: number, colours: number): Uint8Array | undefined {
  const size = pixels * pixels;
  if (colours !== 1 || !items.every(({ idx }) => idx?.of.width === pixels && idx.of.height === pixels)) return undefined;
  const levels = new Uint8Array(items.length * size);
  items.forEach(({ idx }, place) => {
    if (idx) levels.set(idx.of.data.subarray(idx.number * size, (idx.number + 1) * size), place * size);
  });
  return levels;
}

/** Reads images as the model sees them, and holds some of them out. `unreadable` hears of those that cannot be read. */
export async function readImages(
  model: DuetModel,
  { items, classes, names }: Chosen,
  set: string,
  signal: AbortSignal,
  tell: (done: number) => void,
  unreadable: (words: string[]) => void,
): Promise<Split> {
  const { imageSize, channels } = model.info;
  let labels = classes;
  let levels = direct(items, imageSize, channels);
  if (!levels) {
    const each = (function* () {
      for (const item of items) yield item.image();
    })();
    const read = await model.prepareAll(each, { signal, skipUnreadable: true, onProgress: ({ done }) => tell(done) });
    const without = new Set(read.unreadable.map(({ index }) => index));
    labels = classes.filter((_, i) => !without.has(i));
    unreadable(read.unreadable.map(({ index, message }) => `${items[index]?.name ?? index}: ${message}`));
    levels = read.levels;
  }
  const size = channels * imageSize ** 2;
  // Spread over all of them, so that each class has its share.
  const each = Math.max(ONE_OF, Math.ceil(labels.length / MOST_HELD_OUT));
  const rows = { train: [] as number[], heldOut: [] as number[] };
  // A handful is needed whole.
  labels.forEach((_, row) => (row % each === each - 1 && labels.length >= 2 * ONE_OF ? rows.heldOut : rows.train).push(row));
  const part = (wanted: number[]): Bytes => {
    const images = new Uint8Array(wanted.length * size);
    wanted.forEach((row, place) => images.set(levels.subarray(row * size, (row + 1) * size), place * size));
    return { images, labels: Uint32Array.from(wanted, (row) => labels[row]!) };
  };
  return { train: part(rows.train), heldOut: rows.heldOut.length > 0 ? part(rows.heldOut) : undefined, names, set };
}

/** What stands beside the bytes. */
interface About {
  set: string;
  names: string[];
  train: number;
  heldOut: number;
}

/** Keeps images beside a training, so that it can go on after a reload. */
export async function keepImages(name: string, { train, heldOut, names, set }: Split): Promise<void> {
  const about: About = { set, names, train: train.labels.length, heldOut: heldOut?.labels.length ?? 0 };
  const parts = [train, heldOut].flatMap((part) => (part ? [part] : []));
  await trainings.attach(name, 'images', new Blob(parts.map(({ images }) => images as BlobPart)));
  await trainings.attach(name, 'labels', new Blob(parts.map(({ labels }) => labels as BlobPart)));
  // Last: who finds it finds the others.
  await trainings.attach(name, 'about', new Blob([JSON.stringify(about)]));
}

/** The images of a training that is kept; nothing where there was no room for them. */
export async function keptImages(name: string): Promise<Split | undefined> {
  const file = await trainings.attached(name, 'about');
  const [images, labels] = [await trainings.attached(name, 'images'), await trainings.attached(name, 'labels')];
  if (!file || !images || !labels) return undefined;
  const about = JSON.parse(await file.text()) as About;
  const bytes = new Uint8Array(await images.arrayBuffer());
  const classes = new Uint32Array(await labels.arrayBuffer());
  const size = bytes.length / classes.length;
  const part = (from: number, count: number): Bytes => ({
    images: bytes.subarray(from * size, (from + count) * size),
    labels: classes.slice(from, from + count),
  });
  return {
    train: part(0, about.train),
    heldOut: about.heldOut > 0 ? part(about.train, about.heldOut) : undefined,
    names: about.names,
    set: about.set,
  };
}

/** What a training learns from, in words. */
export function wordsOf({ train, heldOut, names, set }: Split): string {
  const held = heldOut ? `; ${plural(heldOut.labels.length, 'other')} held out to look at` : '';
  return `${set}: ${plural(train.labels.length, 'image')} of ${names.length} classes${held}.`;
}
