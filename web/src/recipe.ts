/**
 * Recipes of the command `duet train`, for programs whose images are in memory.
 * @module
 */
import { BadInputError } from './errors.js';
import { Engine, fromModule, startModule } from './module.js';
import { checkSignal } from './options.js';
import type { LoadOptions } from './types.js';
import type { ReadRecipe } from './types-train.js';

/**
 * Reads a recipe of the command, TOML or JSON, as a file or its text. What only the command can follow, for it is of files or of
 * several checkpoints, is left out and told.
 *
 * @throws {@link BadInputError} whose `field` names a mistake; {@link AbortedError}, or a {@link DuetError} with code "network" where the
 * WebAssembly module cannot be loaded.
 */
export async function readRecipe(source: string | Blob, { wasm, signal }: Pick<LoadOptions, 'wasm' | 'signal'> = {}): Promise<ReadRecipe> {
  checkSignal(signal);
  if (typeof source !== 'string' && !(source instanceof Blob)) throw new BadInputError('a recipe is a file or its text', 'recipe');
  const [text] = await Promise.all([typeof source === 'string' ? source : source.text(), startModule(wasm)]);
  checkSignal(signal);
  try {
    return JSON.parse(Engine.adaptRecipe(text)) as ReadRecipe;
  } catch (error) {
    throw fromModule(error);
  }
}
