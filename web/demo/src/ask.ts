/** The form that asks for a counterfactual: its settings as the library's options, and as words of a link. */

import type { ExplainAllOptions, ModelInfo } from 'duet-diffusion';
import { byId, fillSelect, showRange } from './dom';
import { percent, plural } from './format';
import { flipLabel, flippedLabel, offerLabels, showLabels } from './labels';
import { maskText, maskValues, setMaskText } from './mask';
import { PageError } from './messages';

const target = byId<HTMLSelectElement>('target');
const strength = byId<HTMLInputElement>('strength');
const variants = byId<HTMLSelectElement>('variants');
const method = byId<HTMLSelectElement>('method');
const locality = byId<HTMLInputElement>('locality');
const alpha = byId<HTMLInputElement>('alpha');
const noise = byId<HTMLInputElement>('noise');
const steps = byId<HTMLSelectElement>('steps');
const seed = byId<HTMLInputElement>('seed');

/** Settings that a link holds by their ids, where they are not the page's own. */
const SETTINGS: (HTMLInputElement | HTMLSelectElement)[] = [strength, variants, method, locality, alpha, noise, steps, seed];
const DEFAULTS = new Map(SETTINGS.map((setting) => [setting.id, setting.value]));

let info: ModelInfo | undefined;
/** Whether the target was chosen by hand; until then it is the runner-up, the easiest to reach. */
let targetChosen = false;
/** What a link asked for before there was a model, or an answer, to know it by. */
let wanted: string | undefined;

function isLocal(): boolean {
  return method.value === 'local';
}

/** What strengths are, in words. */
function strengthWords(value: number): string {
  const kind = value <= 1.5 ? 'least change' : value <= 2 ? 'convincing' : 'stronger';
  return `${value.toFixed(1)}, ${kind}`;
}

/** The options, but for the target. */
export function askedOptions(): ExplainAllOptions {
  const mask = maskValues();
  // The library's own ladder of strengths begins where the slider does.
  const own = strength.value === DEFAULTS.get('strength') ? {} : { strength: strength.valueAsNumber };
  const how: ExplainAllOptions = isLocal()
    ? { method: 'local', locality: locality.valueAsNumber, ...own }
    : { method: 'paper', alpha: alpha.valueAsNumber };
  const common = { noise: noise.valueAsNumber, steps: Number(steps.value), seed: seed.valueAsNumber };
  return { ...how, ...common, ...(mask && { mask }) };
}

/** What one explanation is to reach, its name, and how many answers are wanted. */
export function askedTarget(): { target: { class: number; present: boolean }; name: string; variants: number } {
  const many = Number(variants.value);
  if (info?.head !== 'multi_label') {
    const name = target.selectedOptions[0]?.textContent ?? '';
    return { target: { class: Number(target.value), present: true }, name, variants: many };
  }
  const flip = flippedLabel();
  if (!flip) throw new PageError('Flip the label that is to change first.');
  return { target: { class: flip.label, present: flip.present }, name: flip.name, variants: many };
}

/** The settings in words, as they stand below a picture. */
export function askedWords(): string {
  const how = isLocal() ? `strength ${strength.value}, locality ${locality.value}` : `the paper’s chain, α ${alpha.value}`;
  return `${how}, noise ${noise.value}, ${steps.value} steps, seed ${seed.value}${maskValues() ? ', part kept' : ''}`;
}

/** What a link says of the form: all that differs from the page's own. */
export function askedText(): [string, string][] {
  const words: [string, string][] = [];
  if (info?.head === 'multi_label') {
    const flip = flippedLabel();
    if (flip) words.push(['target', `${flip.present ? '+' : '-'}${flip.name}`]);
  } else if (target.selectedOptions[0]) {
    words.push(['target', target.selectedOptions[0].textContent ?? '']);
  }
  for (const setting of SETTINGS) {
    if (setting.value !== DEFAULTS.get(setting.id)) words.push([setting.id, setting.value]);
  }
  const mask = maskText();
  if (mask !== undefined) words.push(['mask', mask]);
  return words;
}

/** A setting as a link says, where it can be so; a range takes the nearest value it has. */
function setSetting(setting: HTMLInputElement | HTMLSelectElement, text: string | null): void {
  const fallback = DEFAULTS.get(setting.id) ?? '';
  const sensible = text !== null && (setting instanceof HTMLSelectElement || (text.trim() !== '' && Number.isFinite(Number(text))));
  setting.value = sensible ? text : fallback;
  // A select without such an option is empty.
  if (setting.value === '' || !setting.checkValidity()) setting.value = fallback;
  setting.dispatchEvent(new Event('input'));
  setting.dispatchEvent(new Event('change'));
}

/** Sets the form as a link says; what it does not say, or not in sense, is as at first. */
export function setAsked(words: URLSearchParams): void {
  for (const setting of SETTINGS) setSetting(setting, words.get(setting.id));
  setMaskText(words.get('mask') ?? undefined);
  if (SETTINGS.some(({ id }) => id !== 'strength' && words.has(id))) byId<HTMLDetailsElement>('more').open = true;
  wanted = words.get('target') ?? undefined;
  targetChosen = false;
  setWanted();
}

/** Chooses the target of a link, once its name means something. */
function setWanted(): void {
  if (wanted === undefined || !info) return;
  if (info.head === 'multi_label') {
    flipLabel(wanted.replace(/^[+-]/, ''), !wanted.startsWith('-'));
  } else {
    const found = info.classNames.indexOf(wanted);
    if (found < 0) return;
    target.value = String(found);
    targetChosen = true;
  }
}

/** Proposes what is easiest to reach. */
export function proposeTarget(probabilities: Float32Array): void {
  showLabels(probabilities);
  // What is decided now is known now.
  if (info?.head === 'multi_label') setWanted();
  wanted = undefined;
  if (targetChosen || probabilities.length < 2) return;
  const order = [...probabilities.keys()].sort((a, b) => (probabilities[b] ?? 0) - (probabilities[a] ?? 0));
  target.value = String(order[1]);
}

/** Offers the targets of a model. */
export function offerTargets(model: ModelInfo): void {
  info = model;
  const many = model.head === 'multi_label';
  byId('target-field').hidden = many;
  byId('labels-field').hidden = !many;
  byId('explain-all').textContent = many ? 'Every label' : 'Every class';
  offerLabels(many ? model.classNames : []);
  const before = target.selectedOptions[0]?.textContent;
  fillSelect(
    target,
    model.classNames.map((name, c) => [String(c), name]),
  );
  // A class that the new model does not have was not chosen.
  if (target.selectedOptions[0]?.textContent !== before) targetChosen = false;
  setWanted();
}

/** Wires the form's settings. */
export function startAsk(): void {
  showRange('strength', strengthWords);
  showRange('locality', (value) => (value === 0 ? 'anywhere' : value.toFixed(2)));
  showRange('alpha', String);
  const showNoise = showRange('noise', (value) => {
    const taken = Math.max(1, Math.round(value * Number(steps.value)));
    return `${percent(value)}, about ${plural(taken, 'step')}`;
  });
  steps.addEventListener('change', showNoise);
  const showMethod = (): void => {
    for (const part of document.querySelectorAll<HTMLElement>('[data-method]')) {
      part.hidden = part.dataset.method !== method.value;
    }
  };
  method.addEventListener('change', showMethod);
  // The browser may have kept the choice over a reload.
  showMethod();
  target.addEventListener('change', () => {
    targetChosen = true;
  });
}
