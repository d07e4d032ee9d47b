/**
 * Options with their defaults, checked before anything runs.
 * @module
 */
import { AbortedError, BadInputError } from './errors.js';
import type { ChainOptions, ModelInfo } from './types.js';

/** The number of a class given by number or name. */
export function classNumber(which: number | string, info: ModelInfo): number {
  if (typeof which === 'number') {
    if (Number.isInteger(which) && which >= 0 && which < info.numClasses) return which;
  } else if (typeof which === 'string') {
    const found = info.classNames.findIndex((name) => name.toLowerCase() === which.trim().toLowerCase());
    if (found >= 0) return found;
  }
  throw new BadInputError(`there is no class ${JSON.stringify(which) ?? 'undefined'}; there are: ${info.classNames.join(', ')}`);
}

/** A number in a range, or its default. */
export function ranged(
  name: string,
  value: number | undefined,
  fallback: number,
  least: number,
  most: number,
  whole = false,
): number {
  const number = value ?? fallback;
  const fits = Number.isFinite(number) && number >= least && number <= most && (!whole || Number.isInteger(number));
  if (!fits) {
    throw new BadInputError(`${name} must be a ${whole ? 'whole ' : ''}number from ${least} to ${most}, is ${value}`);
  }
  return number;
}

/** Throws where the caller has asked to stop already. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortedError();
}

/** The options of a chain as the module reads them; `alpha` is the step size where they give none. */
export function chainText(options: ChainOptions, alpha: number, more: { guided: boolean } | { noise: number }): string {
  const { steps = 50 } = options;
  if (typeof steps === 'number' && !(Number.isInteger(steps) && steps > 0)) {
    throw new BadInputError(`steps must be a whole number above 0, is ${steps}`);
  }
  return JSON.stringify({
    steps: String(steps),
    alpha: ranged('alpha', options.alpha, alpha, -1e6, 1e6),
    seed: ranged('seed', options.seed, 0, 0, Number.MAX_SAFE_INTEGER, true),
    ...(options.eta === 'ancestral' ? {} : { eta: ranged('eta', options.eta, 1, 0, 1) }),
    ...more,
  });
}
