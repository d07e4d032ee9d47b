/** Files coming in: pictures by choosing, dropping and pasting, models and whole folders by choosing and dropping. */

import { DuetError } from 'duet-diffusion';
import { onFiles } from './dom';
import { plural } from './format';
import { alertWith, clearAlert, report, say } from './notice';
import { readSource } from './picture';
import type { Source } from './picture';
import { whileBusy } from './task';

/** Messages of files that an alert lists; of more it says how many. */
const MOST_LISTED = 4;

/** A few of many, in words. */
function listed(all: string[]): string {
  const more = all.length - MOST_LISTED;
  return all.slice(0, MOST_LISTED).join('; ') + (more > 0 ? `; and ${plural(more, 'other')}` : '');
}

/**
 * Takes pictures by a file input, dropped on an element, and pasted while that element is shown. Files that are none are
 * named, and so are those beyond `most`.
 */
export function takePictures(
  input: HTMLInputElement,
  zone: HTMLElement,
  most: number,
  take: (picture: Source, name: string) => Promise<void> | void,
): void {
  let asked = 0;

  /** One after the other: no more than one is unpacked at a time. */
  async function read(files: File[]): Promise<void> {
    clearAlert();
    asked += 1;
    const mine = asked;
    const refused: string[] = [];
    const left: string[] = [];
    let taken = 0;
    for (const [number, file] of files.entries()) {
      if (taken === most) {
        left.push(file.name);
        continue;
      }
      if (files.length > 1) say(`Reading picture ${number + 1} of ${files.length}…`);
      try {
        const picture = await readSource(file);
        // Of one picture at a time the last that was asked for is wanted.
        if (most === 1 && mine !== asked) return;
        await take(picture, file.name || 'pasted picture');
        taken += 1;
      } catch (error) {
        if (!(error instanceof DuetError)) throw error;
        refused.push(error.message);
      }
    }
    if (files.length > 1) say(`${plural(taken, 'picture')} of ${files.length} taken.`);
    const words: string[] = [];
    if (refused.length > 0) {
      const share = files.length > 1 ? `${refused.length} of ${plural(files.length, 'file')} could not be read: ` : '';
      words.push(`${share}${listed(refused)}.`);
    }
    if (left.length > 0) words.push(`Only one picture is shown; left out: ${listed(left)}.`);
    if (words.length > 0) alertWith(words.join(' '));
  }

  const takeFiles = (list: Iterable<File> | undefined | null): boolean => {
    const files = [...(list ?? [])];
    if (files.length > 0) whileBusy(() => read(files)).catch(report);
    return files.length > 0;
  };

  onFiles(input, takeFiles);

  markDrags(zone);
  zone.addEventListener('drop', (event) => {
    // A model is one wherever it is dropped.
    if ([...(event.dataTransfer?.files ?? [])].some(isModel)) return;
    if (takeFiles(event.dataTransfer?.files)) event.preventDefault();
    else if (holds(event, ADDRESS)) {
      alertWith('An address was dropped, and this page fetches nothing from elsewhere: save the picture, then drop its file.');
    }
  });

  document.addEventListener('paste', (event) => {
    // A hidden panel's elements have no box.
    if (zone.offsetParent === null) return;
    if (takeFiles(event.clipboardData?.files)) event.preventDefault();
  });
}

/** Whether a file is a model by its name. */
function isModel({ name }: File): boolean {
  return /\.safetensors$/i.test(name);
}

/** Takes model files by a file input and dropped anywhere on the page; on the zone any file is to be one. */
export function takeModels(input: HTMLInputElement, zone: HTMLElement, take: (files: File[]) => void): void {
  onFiles(input, take);
  markDrags(zone);
  window.addEventListener('drop', (event) => {
    const here = event.target instanceof Node && zone.contains(event.target);
    const files = [...(event.dataTransfer?.files ?? [])].filter((file) => here || isModel(file));
    if (files.length > 0) take(files);
  });
}

/** A file and the folders that it lies in, from the outermost that was given. */
export interface Placed {
  file: File;
  folders: string[];
}

/** All files below an entry of a drop. */
async function below(entry: FileSystemEntry, folders: string[]): Promise<Placed[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ file, folders }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const all: Placed[] = [];
  // A browser lists a hundred at a time, and none when there are no more.
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return all;
    for (const inner of part) all.push(...(await below(inner, [...folders, entry.name])));
  }
}

/** Files in the order of their paths: however they came, the same ones are the same list. */
export function inOrder(files: Placed[]): Placed[] {
  const path = ({ file, folders }: Placed): string => [...folders, file.name].join('/');
  return files.sort((a, b) => (path(a) < path(b) ? -1 : 1));
}

/** Takes whole folders, and files beside each other, by file inputs and dropped on a zone; in the order of their paths. */
export function takeFolders(inputs: HTMLInputElement[], zone: HTMLElement, take: (files: Placed[]) => Promise<void>): void {
  const taken = (files: Placed[]): Promise<void> => take(inOrder(files));

  for (const input of inputs) {
    onFiles(input, (files) => {
      const placed = files.map((file) => ({ file, folders: file.webkitRelativePath.split('/').slice(0, -1) }));
      whileBusy(() => taken(placed)).catch(report);
    });
  }
  markDrags(zone);
  zone.addEventListener('drop', (event) => {
    const { files = [], items = [] } = event.dataTransfer ?? {};
    // A model is one wherever it is dropped.
    if (files.length === 0 || [...files].some(isModel)) return;
    event.preventDefault();
    // The entries are gone once the event is over.
    const entries = [...items].flatMap((item) => item.webkitGetAsEntry() ?? []);
    const loose = [...files].map((file) => ({ file, folders: [] }));
    const read = async (): Promise<void> => {
      const parts = await Promise.all(entries.map((entry) => below(entry, [])));
      await taken(entries.length > 0 ? parts.flat() : loose);
    };
    whileBusy(read).catch(report);
  });
}

/** Marks a zone while files are dragged over it. */
function markDrags(zone: HTMLElement): void {
  let depth = 0;
  const mark = (change: number): void => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle('dropping', depth > 0);
  };
  zone.addEventListener('dragenter', (event) => {
    if (holds(event, 'Files')) mark(1);
  });
  zone.addEventListener('dragleave', (event) => {
    if (holds(event, 'Files')) mark(-1);
  });
  zone.addEventListener('drop', () => mark(-depth));
}

const ADDRESS = 'text/uri-list';

function holds(event: DragEvent, type: string): boolean {
  return event.dataTransfer?.types.includes(type) ?? false;
}

/** Keeps the browser from leaving the page for a file or an address dropped on it. */
export function ignoreStrayDrops(): void {
  for (const kind of ['dragover', 'drop'] as const) {
    window.addEventListener(kind, (event) => {
      if (holds(event, 'Files') || holds(event, ADDRESS)) event.preventDefault();
    });
  }
}
