/** A set of labelled images as it was dropped: pictures in folders, or a pair of idx files. */

import { plural } from './format';
import { type Idx, idxPicture, isIdx, readIdx } from './idx';
import type { Placed } from './incoming';
import { PageError } from './messages';

/** An image of a set. */
export interface Item {
  /** What says its class: the folders it lies in, from the outermost, or a class's number. */
  where: string[] | number;
  /** Its name, for people. */
  name: string;
  /** The image; made when it is wanted, so that a large set need not be in memory twice. */
  image: () => Blob | ImageData;
  /** Of an idx file, where its levels are. */
  idx?: { of: Idx; number: number };
}

/** What a set is for: of published ones with both parts, that part is meant. */
export type Purpose = 'test' | 'train';

/** A set of labelled images. */
export interface TestSet {
  /** What it is called. */
  name: string;
  items: Item[];
  /** What was left out of it, in words. */
  leftOut: string[];
}

/** Files that systems put beside others. */
const SYSTEM = /^(\.|__MACOSX$|Thumbs\.db$|desktop\.ini$)/i;
const PICTURE = /\.(png|jpe?g|webp|gif|bmp|avif)$/i;
/** Folders of images that models are trained on, and of those that they are tested on, as the command knows them. */
const TRAIN = /^(train|training)$/i;
const TEST = /^(test|testing|val|valid|validation|dev)$/i;
/** Files that are no pictures and may be idx files: of more, none is looked into. */
const MOST_LOOKED_INTO = 32;
/** Names in a list, before it only counts. */
const MOST_NAMED = 3;

function isPicture({ type, name }: File): boolean {
  return type.startsWith('image/') || PICTURE.test(name);
}

/** Names of files, of many the first. */
function named(files: { name: string }[]): string {
  const more = files.length - MOST_NAMED;
  return files.slice(0, MOST_NAMED).map(({ name }) => name).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** Reads what was given: idx files where there are any, else pictures in folders. */
export async function readTestSet(given: Placed[], purpose: Purpose = 'test'): Promise<TestSet> {
  const files = given.filter(({ file, folders }) => ![...folders, file.name].some((part) => SYSTEM.test(part)));
  const others = files.filter(({ file }) => !isPicture(file));
  const idx: File[] = [];
  if (others.length <= MOST_LOOKED_INTO) {
    for (const { file } of others) if (await isIdx(file)) idx.push(file);
  }
  if (idx.length > 0) return ofIdx(idx, files.filter(({ file }) => !idx.includes(file)).map(({ file }) => file), purpose);
  return ofFolders(files, others.map(({ file }) => file), purpose);
}

/** What stands before "images" or "labels" in a name: the same for two files of one set. */
function stem(name: string): string {
  return name.toLowerCase().split(/[-._]?(?:images|labels)/)[0] ?? '';
}

async function ofIdx(files: File[], others: File[], purpose: Purpose): Promise<TestSet> {
  const leftOut = others.length > 0 ? [`${named(others)}: no idx ${others.length === 1 ? 'file' : 'files'} of images or labels`] : [];
  // Of the official four files those of one part are meant.
  const stems = [...new Set(files.map(({ name }) => stem(name)))];
  const meant = stems.filter((name) => (purpose === 'test' ? /t10k|test/ : /train/).test(name));
  let wanted = files;
  if (files.length > 2 && meant.length === 1) {
    wanted = files.filter(({ name }) => stem(name) === meant[0]);
    const rest = files.filter((file) => !wanted.includes(file));
    leftOut.push(
      purpose === 'test'
        ? `${named(rest)}: not of the test set, so the model may have been trained on them`
        : `${named(rest)}: not of the training set; the tab “Measure” takes them afterwards`,
    );
  }
  if (wanted.length !== 2) {
    throw new PageError(
      `Two idx files are needed, the images and their labels; there ${wanted.length === 1 ? 'is' : 'are'} ` +
        `${plural(wanted.length, 'file')} (${named(wanted)}). Drop both of one set together.`,
    );
  }
  const read: Idx[] = [];
  for (const file of wanted) read.push(await readIdx(file));
  const [images, labels] = [read.find(({ kind }) => kind === 'images'), read.find(({ kind }) => kind === 'labels')];
  if (!images || !labels) throw new PageError(`${named(wanted)} are both files of ${read[0]?.kind}: images and their labels are needed.`);
  if (images.count !== labels.count) {
    throw new PageError(
      `${images.name} has ${plural(images.count, 'image')} and ${labels.name} ${plural(labels.count, 'label')}: they are not of one set.`,
    );
  }
  const items = [...labels.data].map((label, number) => ({
    where: label,
    name: `image ${number} of ${images.name} (counted from 0)`,
    image: () => idxPicture(images, number),
    idx: { of: images, number },
  }));
  return { name: images.name, items, leftOut };
}

function ofFolders(files: Placed[], others: File[], purpose: Purpose): TestSet {
  const leftOut = others.length > 0 ? [`${named(others)}: no ${others.length === 1 ? 'picture' : 'pictures'}`] : [];
  let pictures = files.filter(({ file }) => isPicture(file));
  const inside = (kind: RegExp, { folders }: Placed): boolean => folders.some((folder) => kind.test(folder));
  if (pictures.some((one) => inside(TEST, one)) && pictures.some((one) => inside(TRAIN, one))) {
    const before = pictures.length;
    pictures = pictures.filter((one) => !inside(purpose === 'test' ? TRAIN : TEST, one));
    const [others, these] = purpose === 'test' ? ['training', 'testing'] : ['testing', 'training'];
    leftOut.push(`${plural(before - pictures.length, 'picture')} for ${others}, beside those for ${these}`);
  }
  const loose = pictures.filter(({ folders }) => folders.length === 0);
  if (loose.length > 0) leftOut.push(`${plural(loose.length, 'picture')} in no folder, whose class nothing tells: ${named(loose.map(({ file }) => file))}`);
  pictures = pictures.filter(({ folders }) => folders.length > 0);
  if (pictures.length === 0) {
    const rest = leftOut.length > 0 ? ` (${leftOut.join('; ')})` : '';
    const use = purpose === 'test' ? 'nothing can be measured on that' : 'nothing can be learned from that';
    throw new PageError(`There are no pictures in folders of classes, and no idx files: ${use}${rest}.`);
  }
  const roots = new Set(pictures.map(({ folders }) => folders[0]));
  return {
    name: roots.size === 1 ? ([...roots][0] ?? '') : `${roots.size} folders`,
    items: pictures.map(({ file, folders }) => ({ where: folders, name: [...folders, file.name].join('/'), image: () => file })),
    leftOut,
  };
}
