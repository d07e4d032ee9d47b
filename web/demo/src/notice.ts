/** The status line and the alert. */

import { byId, make } from './dom';
import { isCancel, messageOf, PageError } from './messages';

const alertBox = byId('alert');
const statusText = byId('status-text');

/** Says in the status line what goes on. Screen readers read it, so it must not change often. */
export function say(text: string): void {
  if (statusText.textContent !== text) statusText.textContent = text;
}

/** Takes the alert away. */
export function clearAlert(): void {
  alertBox.replaceChildren();
}

/** Shows an alert until it is dismissed or something else is started. */
export function alertWith(text: string): void {
  const dismiss = make('button', { className: 'button quiet', type: 'button', textContent: 'Dismiss' });
  dismiss.addEventListener('click', clearAlert);
  alertBox.replaceChildren(make('p', { textContent: text }), dismiss);
}

/** Tells of a failure; a call stopped on request is none. */
export function report(error: unknown, subject?: string): void {
  if (isCancel(error)) {
    say('Cancelled.');
    return;
  }
  // The stack is for whoever looks for the cause; a mistake of the page's own finding has none to look for.
  if (!(error instanceof PageError)) console.error(error);
  alertWith(messageOf(error, subject));
}
