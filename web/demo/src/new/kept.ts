/** The trainings that are kept in this browser. */

import { type KeptTraining, trainings } from 'duet-diffusion';
import { byId, download, make } from '../dom';
import { bytes } from '../format';
import { report, say } from '../notice';

/** What can be done with one. */
export interface Uses {
  /** Goes on with it. */
  resume: (name: string) => void;
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

function row({ name, step, bytes: size, changed }: KeptTraining): HTMLElement {
  const busy = name === running;
  const when = new Date(changed).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
  const state = step === undefined ? 'no checkpoint yet' : `step ${step.toLocaleString('en')}`;
  const about = make('span', { className: 'hint', textContent: `${busy ? 'runs now, ' : ''}${state}, ${bytes(size)}, ${when}` });
  // Its bytes: the file itself goes with the next checkpoint.
  const checkpoint = async (): Promise<ArrayBuffer> => (await trainings.checkpoint(name)).arrayBuffer();
  const ready = step !== undefined;
  const buttons = [
    ...(ready && !busy ? [button('Resume', name, () => uses?.resume(name))] : []),
    ...(ready ? [button('Use the model', name, async () => uses?.use(new File([await checkpoint()], fileName(name, '.safetensors'))))] : []),
    ...(ready ? [button('Download', name, async () => download(new Blob([await checkpoint()]), fileName(name, `-${step}.safetensors`)))] : []),
    ...(busy ? [] : [removal(name)]),
  ];
  return make('li', {}, make('div', { className: 'kept-words' }, make('h3', { textContent: name }), about), make('div', { className: 'row' }, ...buttons));
}

/** Shows what is kept now. */
export async function showKept(now: string | undefined = running): Promise<void> {
  running = now;
  const mine = ++asked;
  const note = byId('kept-note');
  try {
    const all = await trainings.list();
    if (mine !== asked) return;
    const focused = list.contains(document.activeElement) ? document.activeElement?.getAttribute('aria-label') : undefined;
    list.replaceChildren(...all.map(row));
    // The keyboard's focus stays where it was, as far as that is still there.
    if (focused) [...list.querySelectorAll('button')].find((one) => one.getAttribute('aria-label') === focused)?.focus();
    note.textContent =
      all.length === 0
        ? 'None yet. While a training runs, its checkpoints are kept in this browser, so that it can go on after a reload.'
        : 'In this browser alone. A download is the file that “duet train --resume --from” goes on with.';
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

/** Wires the list. */
export function startKept(given: Uses): void {
  uses = given;
  void showKept();
}
