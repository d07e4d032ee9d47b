/**
 * Options with their defaults, checked before anything runs.
 * @module
 */
import { AbortedError, BadInputError } from './errors.js';
import type { ChainOptions, ExplainAllOptions, ExplainMethod, ExplainTarget, ModelInfo } from './types.js';

/** Composed letters as one, without white space around: some systems store "é" as two characters. */
function plain(name: string): string {
  return name.trim().normalize('NFC');
}

/** The same for names that differ in case alone. Upper case first: it makes "ß" and "ss" alike. */
function folded(name: string): string {
  return plain(name).toUpperCase().toLowerCase().normalize('NFC');
}

/**
 * The number of the class that is called `name`, by the rule of the command `duet`: as the model writes it, else in any case
 * where only one is called so, else the number itself. Nothing where no class, or more than one, is called so.
 */
export function findClass(name: string, { classNames, numClasses }: Pick<ModelInfo, 'classNames' | 'numClasses'>): number | undefined {
  for (const form of [plain, folded]) {
    const wanted = form(name);
    const found = classNames.flatMap((other, c) => (form(other) === wanted ? [c] : []));
    if (found.length > 0) return found.length === 1 ? found[0] : undefined;
  }
  const number = /^\d+$/.test(name.trim()) ? Number(name) : NaN;
  return number < numClasses ? number : undefined;
}

/** The number of a class given by number or name. */
export function classNumber(which: number | string, info: ModelInfo): number {
  if (typeof which === 'number') {
    if (Number.isInteger(which) && which >= 0 && which < info.numClasses) return which;
  } else if (typeof which === 'string') {
    const found = findClass(which, info);
    if (found !== undefined) return found;
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

/** A number in a range, where one is given. */
function given(name: string, value: number | undefined, least: number, most: number): number | undefined {
  return value === undefined ? undefined : ranged(name, value, least, least, most);
}

/** What all chains are told. */
function chain({ steps = 50, seed }: ChainOptions): { steps: string; seed: number } {
  if (typeof steps === 'number' && !(Number.isInteger(steps) && steps > 0)) {
    throw new BadInputError(`steps must be a whole number above 0, is ${steps}`);
  }
  return { steps: String(steps), seed: ranged('seed', seed, 0, 0, Number.MAX_SAFE_INTEGER, true) };
}

/** The options of samples as the module reads them; `alpha` is the step size where they give none. */
export function sampleText(options: ChainOptions, alpha: number, guided: boolean): string {
  return JSON.stringify({
    ...chain(options),
    alpha: ranged('alpha', options.alpha, alpha, -1e6, 1e6),
    ...(options.eta === 'ancestral' ? {} : { eta: ranged('eta', options.eta, 1, 0, 1) }),
    guided,
  });
}

/** Options that one method alone has. */
const OWN = { local: ['strength', 'locality', 'keep'], paper: ['alpha', 'eta'] } as const;

/** The method that options ask for, by name or by what it alone has. */
export function methodOf(options: ExplainAllOptions): ExplainMethod {
  const first = (method: ExplainMethod) => OWN[method].find((name) => options[name] !== undefined);
  const method: string = options.method ?? (first('paper') === undefined ? 'local' : 'paper');
  if (method !== 'local' && method !== 'paper') {
    throw new BadInputError(`method must be "local" or "paper", is ${JSON.stringify(method)}`);
  }
  const other = method === 'local' ? 'paper' : 'local';
  const stranger = first(other);
  if (stranger !== undefined) {
    throw new BadInputError(`${stranger} is an option of method "${other}": leave it out, or ask for that method`);
  }
  return method;
}

/** What a method is told beside the chain. */
function methodText(options: ExplainAllOptions): object {
  const { guidance } = options;
  if (guidance !== undefined && guidance !== 'gradient' && guidance !== 'representation') {
    throw new BadInputError(`guidance must be "gradient" or "representation", is ${JSON.stringify(guidance)}`);
  }
  if (methodOf(options) === 'local') {
    const strength = given('strength', options.strength, 0, 1e3);
    const locality = given('locality', options.locality, 0, 2);
    return { local: { guidance, strength, locality, keep: given('keep', options.keep, 0, 1e6) } };
  }
  const ancestral = options.eta === 'ancestral';
  const eta = options.eta === 'ancestral' ? undefined : given('eta', options.eta, 0, 1);
  return { paper: { guidance, alpha: given('alpha', options.alpha, -1e6, 1e6), eta, ancestral } };
}

/** The number of a target, and whether it is to be there. */
export function targetOf(target: ExplainTarget, info: ModelInfo): { class: number; present: boolean } {
  let [which, present]: [number | string, boolean] = ['', true];
  if (typeof target === 'object' && target !== null) {
    which = target.class;
    if (target.present !== undefined && typeof target.present !== 'boolean') {
      throw new BadInputError(`present must be true or false, is ${JSON.stringify(target.present)}`);
    }
    present = target.present ?? true;
  } else {
    which = target;
    // A class may be called so itself.
    const named = typeof which === 'string' && info.classNames.some((name) => name === (which as string).trim());
    if (typeof which === 'string' && !named && /^\s*[+-]/.test(which)) {
      const text = which.trim();
      [which, present] = [text.slice(1), text.startsWith('+')];
    }
  }
  const number = classNumber(which, info);
  if (!present && info.head === 'multiclass') {
    throw new BadInputError('an image has one class, which cannot be taken away: name the class it is to become');
  }
  return { class: number, present };
}

/** What is asked of an explanation: one target with so many answers, all of them, or nothing yet. */
export type Ask = { one: { class: number; present: boolean; variants: number } } | { all: object } | { none: object };

/** The options of an explanation as the module reads them. */
export function explainText(ask: Ask, options: ExplainAllOptions): string {
  return JSON.stringify({
    ask,
    ...chain(options),
    noise: ranged('noise', options.noise, 0.2, Number.MIN_VALUE, 1),
    method: methodText(options),
    // Each step's probabilities are read back for who hears of them.
    curve: options.onStep !== undefined,
  });
}
