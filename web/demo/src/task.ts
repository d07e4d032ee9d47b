/** The one long task that runs, and whether the page is busy. */

import { isCancel } from './messages';
import { clearAlert, report, say } from './notice';

const root = document.documentElement;

let calls = 0;
/** The long task that runs: how to stop it, and its end. */
let task: { stop: () => void; ended: Promise<void> } | undefined;

/** Does work during which the page counts as busy. */
export async function whileBusy<T>(work: () => Promise<T>): Promise<T> {
  calls++;
  root.dataset.busy = 'true';
  try {
    return await work();
  } finally {
    calls--;
    root.dataset.busy = String(calls > 0);
  }
}

/** Stops the task that runs, and waits for its end. */
export async function stopTask(): Promise<void> {
  task?.stop();
  await task?.ended;
}

/** One long task at a time: what starts others is disabled until this one has ended, however it ends. */
export async function runTask(
  cancel: HTMLButtonElement | undefined,
  work: (signal: AbortSignal) => Promise<void>,
  subject?: string,
): Promise<void> {
  if (task) return;
  clearAlert();
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  task = { stop, ended };
  const starters = document.querySelectorAll<HTMLButtonElement | HTMLInputElement>('[data-start]');
  const focused = document.activeElement;
  for (const starter of starters) starter.disabled = true;
  const progress = cancel?.parentElement?.querySelector<HTMLElement>('.progress');
  if (progress) progress.hidden = false;
  if (cancel) {
    cancel.disabled = false;
    cancel.addEventListener('click', stop);
    // A disabled button loses the keyboard's focus; the one to press next takes it over.
    if (focused instanceof HTMLElement && focused.matches('[data-start]')) cancel.focus({ preventScroll: true });
  }
  try {
    await whileBusy(() => work(controller.signal));
  } catch (error) {
    if (!isCancel(error)) say('Stopped by an error.');
    report(error, subject);
  } finally {
    task = undefined;
    for (const starter of starters) starter.disabled = false;
    if (progress) progress.hidden = true;
    if (cancel) {
      const hadFocus = document.activeElement === cancel;
      cancel.removeEventListener('click', stop);
      cancel.disabled = true;
      if (hadFocus && focused instanceof HTMLElement) focused.focus({ preventScroll: true });
    }
    end();
  }
}
