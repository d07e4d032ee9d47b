/**
 * Files of this machine's, for programs that may read them.
 * @module
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { DuetError, messageOf } from './errors.js';

/** What addresses begin with, and paths do not: `C:` is a drive. */
const SCHEME = /^[a-z][a-z\d+.-]+:/i;

/** An address, or a path as one. */
export function absolute(address: string | URL): string {
  const text = String(address);
  if (!SCHEME.test(text)) return pathToFileURL(text).href;
  try {
    return new URL(text).href;
  } catch {
    throw new DuetError('network', `${text} is no address`);
  }
}

/** The bytes of a file, where the address is one's. */
export function read(address: string): Promise<Uint8Array> | undefined {
  if (!address.startsWith('file:')) return undefined;
  return (async () => {
    try {
      return new Uint8Array(await readFile(fileURLToPath(address)));
    } catch (error) {
      throw new DuetError('network', `${address} could not be read: ${messageOf(error)}`, { cause: error });
    }
  })();
}
