/**
 * Trainings in the origin's private file system: of each the newest checkpoint, whole, and what a page puts beside it.
 * @module
 */
import { BadCheckpointError, BadInputError, DuetError, messageOf } from './errors.js';
import type { TrainingState } from './types-train.js';

/** The folder of all trainings. */
const ROOT = 'duet-trainings';
/** A file that is not whole yet. */
const UNFINISHED = 'unfinished';
const CHECKPOINT = /^checkpoint-(\d+)\.safetensors$/;
/** What a page's own files begin with. */
const ATTACHED = 'attached-';

/** A training that is kept. */
export interface KeptTraining {
  /** Its name. */
  name: string;
  /** Steps done at its checkpoint; nothing where it has none yet. */
  step: number | undefined;
  /** Bytes of all its files. */
  bytes: number;
  /** When its newest file was written, in milliseconds since 1970. */
  changed: number;
}

/** A folder's own functions that TypeScript's library does not tell of. */
interface Folder extends FileSystemDirectoryHandle {
  keys(): AsyncIterableIterator<string>;
  values(): AsyncIterableIterator<FileSystemHandle>;
}

/** What files offer, each browser something else. */
interface Writable {
  getFile(): Promise<File>;
  createWritable?(): Promise<FileSystemWritableFileStream>;
  createSyncAccessHandle?(): Promise<{
    truncate(size: number): void;
    write(bytes: Uint8Array, at: { at: number }): number;
    flush(): void;
    close(): void;
  }>;
  move?(name: string): Promise<void>;
}

/** Why nothing can be kept. */
export class NoStorage extends Error {}

/** The folder of all trainings. */
async function root(): Promise<Folder> {
  const storage = (globalThis.navigator as Navigator | undefined)?.storage as StorageManager | undefined;
  if (!storage?.getDirectory) throw new NoStorage('this program has no private file system (in browsers: https or localhost, no private window)');
  try {
    return (await (await storage.getDirectory()).getDirectoryHandle(ROOT, { create: true })) as Folder;
  } catch (error) {
    throw new NoStorage(`the browser gives this page no private file system: ${messageOf(error)}`);
  }
}

/** A name as a folder's: dots alone would be other folders. */
function coded(name: string): string {
  if (typeof name !== 'string' || name.trim() === '' || name.length > 60) {
    throw new BadInputError(`the name of a training has 1 to 60 letters, is ${JSON.stringify(name)}`, 'keep');
  }
  return encodeURIComponent(name).replaceAll('.', '%2E');
}

/** Whether a file or folder is simply not there. */
function isMissing(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'NotFoundError';
}

async function folderOf(name: string, create: boolean): Promise<Folder> {
  try {
    return (await (await root()).getDirectoryHandle(coded(name), { create })) as Folder;
  } catch (error) {
    throw isMissing(error) ? new BadInputError(`no training called ${JSON.stringify(name)} is kept here`, 'keep') : error;
  }
}

/** A folder's whole checkpoints: steps and names, the newest first. */
async function checkpointsIn(folder: Folder): Promise<{ step: number; name: string }[]> {
  const found: { step: number; name: string }[] = [];
  for await (const name of folder.keys()) {
    const step = CHECKPOINT.exec(name)?.[1];
    // A file that is made and was never written is empty.
    if (step !== undefined && (await (await folder.getFileHandle(name)).getFile()).size > 0) found.push({ step: Number(step), name });
  }
  return found.sort((a, b) => b.step - a.step);
}

/** Writes a file, whole. */
async function write(folder: Folder, name: string, data: Uint8Array | Blob): Promise<Writable> {
  const file = (await folder.getFileHandle(name, { create: true })) as unknown as Writable;
  if (file.createWritable) {
    const stream = await file.createWritable();
    try {
      await stream.write(data as FileSystemWriteChunkType);
      await stream.close();
    } catch (error) {
      await stream.abort().catch(() => undefined);
      throw error;
    }
  } else if (file.createSyncAccessHandle) {
    const bytes = data instanceof Blob ? new Uint8Array(await data.arrayBuffer()) : data;
    const handle = await file.createSyncAccessHandle();
    try {
      handle.truncate(0);
      if (handle.write(bytes, { at: 0 }) !== bytes.length) throw new DOMException('the disk or quota is full', 'QuotaExceededError');
      handle.flush();
    } finally {
      handle.close();
    }
  } else {
    throw new NoStorage("this browser writes files in workers alone: use DuetWorker");
  }
  const size = data instanceof Blob ? data.size : data.length;
  const written = (await file.getFile()).size;
  if (written !== size) throw new Error(`${written} of ${size} bytes were written`);
  return file;
}

/** Removes a file that may be gone already. */
async function remove(folder: Folder, name: string): Promise<void> {
  await folder.removeEntry(name).catch((error: unknown) => {
    if (!isMissing(error)) throw error;
  });
}

/** A training that a run keeps its checkpoints in. */
export class Keeper {
  private constructor(
    private readonly folder: Folder,
    private readonly letGo: () => void,
  ) {}

  /**
   * Opens a training for a run that stands at `step`, or that begins. One at a time, and nothing is written over that the run
   * does not go on from.
   */
  static async open(name: string, step: number | undefined): Promise<Keeper> {
    const folder = await folderOf(name, true);
    const letGo = await lock(name);
    try {
      const [newest] = await checkpointsIn(folder);
      if (newest && newest.step !== step) {
        const told = `a training called ${JSON.stringify(name)} is kept here, at step ${newest.step}`;
        throw new BadInputError(`${told}: go on with its checkpoint, remove it, or keep this one under another name`, 'keep');
      }
      return new Keeper(folder, letGo);
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /** Keeps a checkpoint in place of those before: written beside them, and named once it is whole. */
  async save(step: number, bytes: Uint8Array | Blob): Promise<void> {
    const name = `checkpoint-${String(step).padStart(8, '0')}.safetensors`;
    const before = await checkpointsIn(this.folder);
    try {
      if (before.some((one) => one.name === name)) {
        // A step that was done again, after a lost device: the same bits. The browser itself replaces a file whole.
        await write(this.folder, name, bytes);
      } else {
        const file = await write(this.folder, UNFINISHED, bytes);
        if (file.move) await file.move(name);
        else await write(this.folder, name, bytes);
      }
    } catch (error) {
      // What was written of it takes room that the next one may need.
      await remove(this.folder, UNFINISHED).catch(() => undefined);
      throw error;
    }
    await remove(this.folder, UNFINISHED);
    for (const old of before) if (old.name !== name) await remove(this.folder, old.name);
  }

  /** Lets others go on with it. */
  close(): void {
    this.letGo();
  }
}

/** Takes a training for this run; the function given lets it go. Where there are no locks one tab is trusted to be alone. */
async function lock(name: string): Promise<() => void> {
  const locks = (globalThis.navigator as Navigator | undefined)?.locks as LockManager | undefined;
  if (!locks) return () => undefined;
  return new Promise((resolve, reject) => {
    const held = locks.request(`duet-training ${name}`, { ifAvailable: true }, async (lock) => {
      if (!lock) throw new BadInputError(`the training ${JSON.stringify(name)} runs already, in this page or another tab`, 'keep');
      await new Promise<void>((letGo) => resolve(letGo));
    });
    held.catch(reject);
  });
}

/** What a failure to keep something says. */
export function reasonOf(error: unknown): string {
  if (error instanceof DOMException && error.name === 'QuotaExceededError') {
    return 'the browser gives this page no more room: remove other trainings, or free the disk';
  }
  return messageOf(error);
}

/** What a checkpoint's header says of its training. */
async function stateIn(file: Blob): Promise<TrainingState> {
  const called = 'name' in file && typeof file.name === 'string' ? file.name : 'the checkpoint';
  const refused = (detail: string): DuetError => new BadCheckpointError(`${called} ${detail}`);
  const length = new DataView(await file.slice(0, 8).arrayBuffer());
  const end = length.byteLength === 8 ? 8 + Number(length.getBigUint64(0, true)) : Infinity;
  if (end > file.size) throw refused('is no .safetensors file, or not all of it');
  try {
    const header = JSON.parse(await file.slice(8, end).text()) as { __metadata__: { duet: string } };
    const { step, recipe } = (JSON.parse(header.__metadata__.duet) as { training: TrainingState }).training;
    return { step, recipe };
  } catch {
    throw refused('holds no training state');
  }
}

/** Refuses with an error of this package. */
async function typed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DuetError) throw error;
    throw new DuetError('storage', reasonOf(error), { cause: error });
  }
}

/**
 * The trainings that are kept in this origin's private file system (OPFS). A checkpoint is a whole `.safetensors` file: load it with
 * `{ training: true }` to go on here, or give it to `duet train --resume --from`.
 *
 * Every function rejects with a {@link DuetError}: code "bad-input" for a name that is not there, "storage" where there is no such file
 * system, or no room.
 */
export const trainings = {
  /** Those there are, the newest first. */
  list(): Promise<KeptTraining[]> {
    return typed(async () => {
      const all: KeptTraining[] = [];
      for await (const folder of (await root()).values()) {
        if (folder.kind !== 'directory') continue;
        let [bytes, changed] = [0, 0];
        for await (const file of (folder as Folder).values()) {
          if (file.kind !== 'file') continue;
          const { size, lastModified } = await (file as FileSystemFileHandle).getFile();
          bytes += size;
          changed = Math.max(changed, lastModified);
        }
        const [newest] = await checkpointsIn(folder as Folder);
        all.push({ name: decodeURIComponent(folder.name), step: newest?.step, bytes, changed });
      }
      return all.sort((a, b) => b.changed - a.changed);
    });
  },

  /** The newest checkpoint of one. */
  checkpoint(name: string): Promise<File> {
    return typed(async () => {
      const folder = await folderOf(name, false);
      const [newest] = await checkpointsIn(folder);
      if (!newest) throw new BadInputError(`the training ${JSON.stringify(name)} has no checkpoint yet`, 'keep');
      return (await folder.getFileHandle(newest.name)).getFile();
    });
  },

  /** Where one stands: steps done and its recipe, read from the newest checkpoint's header alone. Done are all where `recipe.train.steps` are. */
  state(name: string): Promise<TrainingState> {
    return typed(async () => stateIn(await trainings.checkpoint(name)));
  },

  /** Keeps a checkpoint that is from elsewhere, a download say, under a name that none has yet; where it stands. */
  add(name: string, checkpoint: Blob): Promise<TrainingState> {
    return typed(async () => {
      const state = await stateIn(checkpoint);
      const keeper = await Keeper.open(name, undefined);
      try {
        await keeper.save(state.step, checkpoint);
      } catch (error) {
        // Nothing is to be there that cannot be gone on with.
        await (await root()).removeEntry(coded(name), { recursive: true });
        throw error;
      } finally {
        keeper.close();
      }
      return state;
    });
  },

  /** Removes one, with all that is beside it. */
  remove(name: string): Promise<void> {
    return typed(async () => {
      await folderOf(name, false);
      const letGo = await lock(name);
      try {
        await (await root()).removeEntry(coded(name), { recursive: true });
      } finally {
        letGo();
      }
    });
  },

  /** Puts a file of the page's own beside a training, its images say; replaces one of the same name. */
  attach(name: string, file: string, data: Uint8Array | Blob): Promise<void> {
    return typed(async () => {
      await write(await folderOf(name, true), ATTACHED + coded(file), data);
    });
  },

  /** A file of the page's own; nothing where there is none. */
  attached(name: string, file: string): Promise<File | undefined> {
    return typed(async () => {
      try {
        return await (await (await folderOf(name, false)).getFileHandle(ATTACHED + coded(file))).getFile();
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  },
};
