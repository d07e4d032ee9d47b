/** Which images of a test set are of which of the model's classes, and which of them are measured. */

import { findClass } from 'duet-diffusion';
import type { ModelInfo } from 'duet-diffusion';
import { plural } from './format';
import type { Item, TestSet } from './test-set';

/** Images with a class of the model each. */
export interface Labelled {
  items: Item[];
  /** Of each image. */
  classes: number[];
}

/** A test set as a model sees it. */
export interface Matched extends Labelled {
  /** What has no class of the model, and what was left out before, in words. */
  leftOut: string[];
}

type Classes = Pick<ModelInfo, 'classNames' | 'numClasses'>;

/** A name as a folder can have it: what no folder's name may hold is as good as a space or a dash. */
function asFolder(name: string): string {
  return name.normalize('NFC').toLowerCase().replace(/[\s_\-/\\:*?"<>|]+/g, ' ').trim();
}

/** The class of a picture by the folders it lies in: by a name, else by a number, the innermost folder first. */
function classOf(folders: string[], info: Classes): number | undefined {
  const inward = [...folders].reverse();
  const digits = (name: string): boolean => /^\d+$/.test(name.trim());
  for (const folder of inward.filter((name) => !digits(name))) {
    const found = findClass(folder, info);
    if (found !== undefined) return found;
    const alike = info.classNames.flatMap((name, c) => (asFolder(name) === asFolder(folder) ? [c] : []));
    if (alike.length === 1) return alike[0];
  }
  for (const folder of inward.filter(digits)) {
    const found = findClass(folder, info);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Finds the class of each image. */
export function matchClasses({ items, leftOut }: TestSet, info: Classes): Matched {
  const matched: Matched = { items: [], classes: [], leftOut: [] };
  const known = new Map<string, number | undefined>();
  const unknown = new Map<string, number>();
  for (const item of items) {
    const { where } = item;
    const key = typeof where === 'number' ? `label ${where}` : where.join('/');
    if (!known.has(key)) {
      known.set(key, typeof where === 'number' ? (where < info.numClasses ? where : undefined) : classOf(where, info));
    }
    const found = known.get(key);
    if (found === undefined) {
      unknown.set(key, (unknown.get(key) ?? 0) + 1);
    } else {
      matched.items.push(item);
      matched.classes.push(found);
    }
  }
  const words = [...unknown].map(([key, count]) => `${key}: ${plural(count, 'image')}, no class of this model`);
  matched.leftOut = [...words, ...leftOut];
  return matched;
}

/** Whether the first images could be chance's choice of all: each class among them about as often as it should be. */
function isMixed(classes: number[], count: number): boolean {
  const counts = new Map<number, [first: number, all: number]>();
  classes.forEach((one, row) => {
    const [first, all] = counts.get(one) ?? [0, 0];
    counts.set(one, [first + Number(row < count), all + 1]);
  });
  return [...counts.values()].every(([first, all]) => {
    const expected = (all * count) / classes.length;
    const far = Math.abs(first - expected) > 1 + 4 * Math.sqrt(expected);
    return !far && (first > 0 || expected < 1);
  });
}

/**
 * At most so many of the images, of each class its share: those that `duet eval --images` takes, the first of mixed sets and images
 * from all over sets that lie class by class.
 */
export function shareOf(all: Labelled, most: number): Labelled {
  const length = all.items.length;
  if (most >= length) return all;
  let rows = [...all.items.keys()];
  if (isMixed(all.classes, most)) {
    rows = rows.slice(0, most);
  } else {
    rows.sort((a, b) => (all.classes[a] ?? 0) - (all.classes[b] ?? 0) || a - b);
    // The middle of each of as many equal stretches.
    const chosen = Array.from({ length: most }, (_, i) => rows[Math.floor(((2 * i + 1) * length) / (2 * most))] ?? 0);
    rows = chosen.sort((a, b) => a - b);
  }
  return { items: rows.flatMap((row) => all.items[row] ?? []), classes: rows.map((row) => all.classes[row] ?? 0) };
}
