/** What to say of each error: what happened, and what to do about it. */

import { AbortedError, DuetError, LimitTooSmallError, OutOfMemoryError } from 'duet-diffusion';
import { bytes } from './format';

/** What to say of a result whose model has changed since. */
export function outdated(change: 'loaded' | 'trained', what: string): string {
  const model = change === 'trained' ? 'as it was before it was trained' : 'that was loaded before';
  return `${what} is of the model ${model}.`;
}

/** A mistake of the page's own finding, worded for people already. */
export class PageError extends Error {}

/** Whether an error only says that the call was stopped on request. */
export function isCancel(error: unknown): boolean {
  return error instanceof AbortedError || (error instanceof DOMException && error.name === 'AbortError');
}

/** Whether an error says that the model went while it was asked: another one took its place. */
export function isGone(error: unknown): boolean {
  return isCancel(error) || (error instanceof DuetError && error.code === 'disposed');
}

/** A limit's numbers, as bytes where the limit counts bytes. */
function limitValue(limit: string, value: number): string {
  return /size/i.test(limit) && !/workgroupSize/i.test(limit) ? bytes(value) : value.toLocaleString('en');
}

/** The message of an error; `subject` names the file or address it is about, if any. */
export function messageOf(error: unknown, subject?: string): string {
  if (error instanceof PageError) return error.message;
  if (!(error instanceof DuetError)) {
    // A file is read only when it is used, and may be another one by then.
    if (error instanceof DOMException && ['NotReadableError', 'NotFoundError'].includes(error.name)) {
      return `${subject ?? 'The file'} could not be read: it was moved, changed or is no file. Choose it again.`;
    }
    return `Something unexpected went wrong: ${error instanceof Error ? error.message : String(error)}`;
  }
  switch (error.code) {
    case 'no-webgpu':
      return (
        'This browser offers no WebGPU here. Chrome and Edge have it from version 113, Safari from 26, Firefox from 141 ' +
        'on Windows; and the page must be served over https or from localhost.'
      );
    case 'no-adapter':
      return (
        'The browser has WebGPU but offers no GPU. Update the graphics driver, switch hardware acceleration on in the ' +
        `browser's settings, and reload. (${error.message})`
      );
    case 'limit-too-small': {
      if (!(error instanceof LimitTooSmallError)) break;
      const { limit, need, have } = error;
      return (
        `This GPU is too small for the model: ${limit} must be ${limitValue(limit, need)}, and the GPU offers ` +
        `${limitValue(limit, have)}. Try a smaller model or fewer images at a time.`
      );
    }
    case 'out-of-memory': {
      const need = error instanceof OutOfMemoryError && error.need > 0 ? ` (${bytes(error.need)} were asked for)` : '';
      return `The GPU has not enough free memory${need}. Close other pages that use it, or use fewer images at a time.`;
    }
    case 'device-lost':
      return (
        'The connection to the GPU was lost, and this call with it. The next one opens the GPU again: simply try again, ' +
        `and reload the page if that fails too. (${error.message})`
      );
    case 'bad-checkpoint':
      return `${subject ?? 'The file'} is no model that Duet can read: ${error.message}`;
    case 'bad-input':
      return `That does not work: ${error.message}`;
    case 'not-finite':
      return (
        'The computation left the range of numbers, so its result is useless. Use a smaller learning rate or α; after ' +
        `training, reload the page to start from the stored model. (${error.message})`
      );
    case 'network':
      return (
        `${error.message}. This page only fetches from its own site; ` +
        'a model from elsewhere can be downloaded and opened with “Open a model…”.'
      );
    case 'storage':
      return `This browser cannot keep it: ${error.message}.`;
    case 'disposed':
      return 'The model was closed meanwhile. Try again.';
    case 'internal':
      return `The page itself failed. Reload it to go on. (${error.message})`;
    default:
      break;
  }
  return `The GPU reported an error: ${error.message}`;
}
