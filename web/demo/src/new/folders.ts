/**
 * Folders of images that are remembered between visits, where the browser can: a handle in IndexedDB, which opens nothing until the
 * visitor allows it again. Elsewhere folders are chosen by a file input, and chosen anew at each visit.
 */

import { inOrder, type Placed } from '../incoming';
import { PageError } from '../messages';
import type { ClassNames } from './classes';

/** What TypeScript's library does not tell of yet. */
interface Folder extends FileSystemDirectoryHandle {
  values(): AsyncIterableIterator<FileSystemHandle>;
  queryPermission?(of: { mode: 'read' }): Promise<PermissionState>;
  requestPermission?(of: { mode: 'read' }): Promise<PermissionState>;
}

/** A folder that was chosen. */
export interface Remembered {
  folder: FileSystemDirectoryHandle;
  /** What its classes were called, and which were left out. */
  names: ClassNames;
}

const DATABASE = 'duet-folders';
const STORE = 'folders';
/** The folder that was chosen last, whatever was done with it: trainings have names of a letter at least. */
const LAST = '';

type Picker = (options: { id: string; mode: 'read' }) => Promise<FileSystemDirectoryHandle>;

function picker(): Picker | undefined {
  return (window as { showDirectoryPicker?: Picker }).showDirectoryPicker;
}

/** Whether folders can be chosen so that they are remembered. */
export function canPick(): boolean {
  return picker() !== undefined;
}

/** Has the visitor choose a folder; nothing where that was given up. */
export async function pick(): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    return await picker()?.call(window, { id: 'duet-images', mode: 'read' });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') return undefined;
    throw error;
  }
}

/** Asks that a remembered folder may be read. Within a click: browsers ask nothing of their own accord. */
export async function allowed(folder: FileSystemDirectoryHandle): Promise<void> {
  const { queryPermission, requestPermission } = folder as Folder;
  if ((await queryPermission?.call(folder, { mode: 'read' })) === 'granted') return;
  if ((await requestPermission?.call(folder, { mode: 'read' })) === 'denied') {
    throw new PageError(`The browser was not allowed to read the folder ${folder.name}: allow it, or choose the folder anew.`);
  }
}

/** All files in a folder, as if it had been dropped. */
export async function filesIn(folder: FileSystemDirectoryHandle): Promise<Placed[]> {
  const all: Placed[] = [];
  const below = async (inner: Folder, folders: string[]): Promise<void> => {
    for await (const entry of inner.values()) {
      if (entry.kind === 'directory') await below(entry as Folder, [...folders, entry.name]);
      else all.push({ file: await (entry as FileSystemFileHandle).getFile(), folders });
    }
  };
  try {
    await below(folder as Folder, [folder.name]);
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== 'NotFoundError') throw error;
    throw new PageError(`The folder ${folder.name} is not where it was: choose it anew.`);
  }
  return inOrder(all);
}

/** Does something with the store; nothing where the browser keeps none, as in private windows. */
async function stored<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
  try {
    const database = await new Promise<IDBDatabase>((resolve, reject) => {
      const opening = indexedDB.open(DATABASE, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error ?? new Error('no database'));
    });
    try {
      return await new Promise<T>((resolve, reject) => {
        const transaction = database.transaction(STORE, mode);
        const request = work(transaction.objectStore(STORE));
        transaction.oncomplete = () => resolve(request.result);
        transaction.onabort = () => reject(transaction.error ?? new Error('nothing was kept'));
      });
    } finally {
      database.close();
    }
  } catch (error) {
    // Only a click is saved by it.
    console.warn(error);
    return undefined;
  }
}

/** Remembers a folder for a training; without one as the last that was chosen. */
export async function remember(one: Remembered, training = LAST): Promise<void> {
  await stored('readwrite', (store) => store.put(one, training));
}

/** The folder of a training; without one the last that was chosen. */
export function recall(training = LAST): Promise<Remembered | undefined> {
  return stored('readonly', (store) => store.get(training) as IDBRequest<Remembered | undefined>);
}

/** Forgets the folder of a training. */
export async function forget(training: string): Promise<void> {
  await stored('readwrite', (store) => store.delete(training));
}
