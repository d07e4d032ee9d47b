/** The trainings that are kept in this browser. */

import { type KeptTraining, type Recipe, trainings, type TrainingState } from 'duet-diffusion';
import { byId, download, make, onFiles } from '../dom';
import { bytes } from '../format';
import { clearAlert, report, say } from '../notice';

/** What can be done with one. */
export interface Uses {
  /** Goes on with it: to its end, or, of one that is finished, for more steps. */
  resume: (name: string, more?: number) => void;
  /** Hands its recipe out as a file. */
  recipe: (recipe: Recipe, name: string) => void;
  /** What else is known of it goes, too. */
  forget: (name: string) => Promise<void>;
  /** Takes its model for the other tabs. */
  use: (file: File) => void;
}

const list = byId('kept-list');
let uses: Uses | undefined;
/** The one that runs: it can be neither removed nor gone on with. */
let running: string | undefined;
/** Of several lists that are asked for the last one is shown. */
let asked = 0;

/** A name as a file's. */
export function fileName(name: string, ending: string): string {
  return `${name.replaceAll(/[^\p{L}\p{N}_-]+/gu, '-')}${ending}`;
}

/** A button that does something with a training. */
function button(text: string, name: string, does: () => Promise<void> | void): HTMLButtonElement {
  const made = make('button', { className: 'button quiet', type: 'button', textContent: text });
  made.setAttribute('aria-label', `${text}: ${name}`);
  made.addEventListener('click', () => {
    Promise.resolve(does()).catch(report);
  });
  return made;
}

/** A button that asks once more. */
function removal(name: string): HTMLButtonElement {
  let sure = false;
  const made = button('Delete', name, async () => {
    if (!sure) {
      sure = true;
      made.textContent = 'Delete for good';
      made.setAttribute('aria-label', `Delete for good: ${name}`);
      return;
    }
    await trainings.remove(name);
    await uses?.forget(name);
    say(`The training ${name} is deleted.`);
    await showKept();
    byId('kept-heading').focus();
  });
  made.addEventListener('blur', () => {
    sure = false;
    made.textContent = 'Delete';
    made.setAttribute('aria-label', `Delete: ${name}`);
  });
  return made;
}

/** Steps of a recipe; of a training without one there is no end. */
function stepsOf(state: TrainingState | undefined): number {
  return state?.recipe?.train?.steps ?? Infinity;
}

/** What asks how many more steps a finished training is to do. */
function moreSteps(name: string, { step, recipe }: TrainingState): HTMLFormElement {
  const count = make('input', { type: 'number', min: '1', max: '1000000', step: '1', required: true, inputMode: 'numeric' });
  count.value = String(Math.max(1, Math.round(step / 4)));
  count.setAttribute('aria-label', `More steps of ${name}`);
  const go = make('button', { className: 'button quiet', type: 'submit', textContent: 'Train on' });
  go.setAttribute('aria-label', `Train on: ${name}`);
  const schedule = recipe.train?.lr_schedule ?? 'constant';
  const ends = schedule === 'cosine' || schedule === 'linear';
  const note = ends ? [make('p', { className: 'hint', textContent: `The learning rate is at the end of its ${schedule} schedule; more steps make that longer, so that it is higher again.` })] : [];
  const form = make('form', { className: 'kept-more' }, make('label', {}, count, make('span', { textContent: 'more steps' })), go, ...note);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    uses?.resume(name, count.valueAsNumber);
  });
  return form;
}

function row({ name, step, bytes: size, changed }: KeptTraining, at: TrainingState | undefined): HTMLElement {
  const busy = name === running;
  const when = new Date(changed).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
  const steps = stepsOf(at);
  const finished = step !== undefined && step >= steps;
  const done = (step ?? 0).toLocaleString('en');
  const of = Number.isFinite(steps) ? ` of ${steps.toLocaleString('en')}` : '';
  const state = step === undefined ? 'no checkpoint yet' : finished ? `finished, all ${done} steps` : `step ${done}${of}`;
  const about = make('span', { className: 'hint', textContent: `${busy ? 'runs now, ' : ''}${state}, ${bytes(size)}, ${when}` });
  // Its bytes: the file itself goes with the next checkpoint.
  const checkpoint = async (): Promise<ArrayBuffer> => (await trainings.checkpoint(name)).arrayBuffer();
  const ready = step !== undefined;
  const buttons = [
    ...(ready && !busy && !finished ? [button('Resume', name, () => uses?.resume(name))] : []),
    ...(ready ? [button('Use the model', name, async () => uses?.use(new File([await checkpoint()], fileName(name, '.safetensors'))))] : []),
    ...(ready ? [button('Download', name, async () => download(new Blob([await checkpoint()]), fileName(name, `-${step}.safetensors`)))] : []),
    ...(at?.recipe ? [button('Recipe', name, () => uses?.recipe(at.recipe, name))] : []),
    ...(busy ? [] : [removal(name)]),
  ];
  const words = make('div', { className: 'kept-words' }, make('h3', { textContent: name }), about);
  const more = finished && !busy && at ? [moreSteps(name, at)] : [];
  return make('li', {}, words, make('div', { className: 'row' }, ...buttons), ...more);
}

/** Shows what is kept now. */
export async function showKept(now: string | undefined = running): Promise<void> {
  running = now;
  const mine = ++asked;
  const note = byId('kept-note');
  try {
    const all = await trainings.list();
    // Of what cannot be read the other buttons are there all the same.
    const states = await Promise.all(all.map(({ name, step }) => (step === undefined ? undefined : trainings.state(name).catch(() => undefined))));
    if (mine !== asked) return;
    const focused = list.contains(document.activeElement) ? document.activeElement?.getAttribute('aria-label') : undefined;
    const typed = new Map([...list.querySelectorAll('input')].map((input) => [input.ariaLabel, input.value]));
    list.replaceChildren(...all.map((one, i) => row(one, states[i])));
    // What is typed, and the keyboard's focus, stay where they were, as far as that is still there.
    for (const input of list.querySelectorAll('input')) input.value = typed.get(input.ariaLabel) ?? input.value;
    if (focused) [...list.querySelectorAll<HTMLElement>('button, input')].find(({ ariaLabel }) => ariaLabel === focused)?.focus();
    note.textContent =
      all.length === 0
        ? 'None yet. While a training runs, its checkpoints are kept in this browser, so that it can go on after a reload.'
        : 'In this browser alone. With a download and the recipe “duet train FOLDER --recipe RECIPE --resume --from FILE” goes on.';
  } catch (error) {
    if (mine !== asked) return;
    list.replaceChildren();
    note.textContent = `Nothing can be kept here, so checkpoints stay in this page’s memory: ${error instanceof Error ? error.message : String(error)}.`;
  }
}

/** A name that no training has yet. */
export async function freeName(wanted: string): Promise<string> {
  const taken = new Set((await trainings.list().catch(() => [])).map(({ name }) => name));
  if (!taken.has(wanted)) return wanted;
  let number = 2;
  while (taken.has(`${wanted} ${number}`)) number += 1;
  return `${wanted} ${number}`;
}

/** Keeps a checkpoint that was downloaded, here or from another browser. */
async function add(file: File): Promise<void> {
  clearAlert();
  const name = await freeName(file.name.replace(/(-\d+)?(\.safetensors)?$/i, '').slice(0, 40) || 'My model');
  const { step } = await trainings.add(name, file);
  say(`The training ${name} is kept at step ${step.toLocaleString('en')}. It goes on with the images that it was trained on.`);
  await showKept();
}

/** Wires the list. */
export function startKept(given: Uses): void {
  uses = given;
  const input = byId<HTMLInputElement>('kept-open');
  onFiles(input, ([file]) => {
    if (file) add(file).catch((error: unknown) => report(error, file.name));
  });
  void showKept();
}
