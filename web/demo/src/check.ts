/** The page that checks the device behind the browser. */

import { Duet, DuetError, DuetWorker, LimitTooSmallError, NoWebGpuError } from 'duet-diffusion';
import type { CheckProgress } from 'duet-diffusion';
import { showReport, startReport } from './check-report';
import { byId } from './dom';
import { percent } from './format';
import { messageOf, PageError } from './messages';
import { alertWith, report, say } from './notice';
import { runTask } from './task';

const progress = byId<HTMLProgressElement>('check-progress');
const progressText = byId('check-progress-text');

/** What else to try where there is no device to check. */
const ELSEWHERE =
  'On Linux, Chrome may want WebGPU switched on at chrome://flags/#enable-unsafe-webgpu. ' +
  'Without a browser, the command “duet check --full” checks this machine’s GPU.';

/** An error in words that fit this page, which has no model. */
function fitting(error: unknown): unknown {
  if (!(error instanceof DuetError)) return error;
  if (error instanceof LimitTooSmallError) {
    const { limit, need, have } = error;
    return new PageError(`This GPU is too small for Duet: ${limit} must be ${need.toLocaleString('en')}, and it offers ${have.toLocaleString('en')}.`);
  }
  switch (error.code) {
    case 'no-webgpu':
    case 'no-adapter':
      return new PageError(`${messageOf(error)} ${ELSEWHERE}`);
    case 'network':
      return new PageError(`The page is not whole: ${error.message}. Reload it.`);
    default:
      return error;
  }
}

/** Shows progress; the spoken line changes at every quarter only. */
function teller(): (state: CheckProgress) => void {
  let said = 0;
  return (state) => {
    const { done, total, next } = state;
    if (next === undefined) return;
    progress.max = total;
    progress.value = done;
    progressText.textContent = `${done + 1} of ${total}: ${next}`;
    const words = showReport(state);
    const quarter = Math.floor((4 * done) / total);
    if (quarter > said) {
      said = quarter;
      say(`Checking: ${percent(quarter / 4)}. ${words}`);
    }
  };
}

async function check(signal: AbortSignal): Promise<void> {
  say('Checking this device…');
  progress.removeAttribute('value');
  progressText.textContent = 'Opening the device…';
  const tell = teller();
  let last: CheckProgress | undefined;
  const onProgress = (state: CheckProgress): void => {
    last = state;
    tell(state);
  };
  // On the main thread for debugging and for browsers whose workers have no WebGPU.
  const main = new URLSearchParams(location.search).get('thread') === 'main';
  try {
    const found = await (main ? Duet : DuetWorker).checkDevice({ signal, onProgress });
    const parts = last?.total ?? 0;
    say(showReport({ report: found, done: parts, total: parts }));
  } catch (error) {
    if (last?.next !== undefined) showReport(last, true);
    throw fitting(error);
  }
}

window.addEventListener('error', (event) => {
  // Events without an error are remarks of the browser, such as on late resize notifications.
  if (event.error) report(event.error);
});
window.addEventListener('unhandledrejection', (event) => report(event.reason));

startReport();
byId('check').addEventListener('click', () => void runTask(byId<HTMLButtonElement>('check-cancel'), check));
if (!navigator.gpu) {
  say('This browser has no device to check.');
  alertWith(messageOf(fitting(new NoWebGpuError(''))));
}
document.documentElement.dataset.ready = 'true';
