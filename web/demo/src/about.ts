/** What is known of the loaded model. */

import type { ModelInfo } from 'duet-diffusion';
import { byId, make } from './dom';
import { count, plural } from './format';
import { say } from './notice';
import { onModel, withModel } from './session';
import { runTask } from './task';

function facts(info: ModelInfo): string {
  const kind = info.channels === 1 ? 'grey' : 'colour';
  const classes = info.head === 'multi_label' ? plural(info.numClasses, 'label') : `${info.numClasses}\u00a0classes`;
  return `${classes} · ${count(info.parameters)} parameters · ${info.imageSize}×${info.imageSize} ${kind} · ${info.adapter}`;
}

/** Wires the facts in the status line, the details, and the GPU's self-test. */
export function startAbout(): void {
  onModel(({ info }) => {
    byId('facts').textContent = facts(info);
    const rows: [string, string][] = [
      ['GPU', info.adapter],
      ['Classes', info.classNames.join(', ')],
      ['Parameters', info.parameters.toLocaleString('en')],
      ['Images', `${info.imageSize}×${info.imageSize}, ${info.channels === 1 ? 'grey' : 'colour'}`],
      ['Timesteps', String(info.diffusionSteps)],
      ...Object.entries(info.info),
    ];
    byId('about-list').replaceChildren(
      ...rows.map(([name, value]) =>
        make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value })),
      ),
    );
    byId('about').hidden = false;
    for (const note of document.querySelectorAll<HTMLElement>('[data-unguidable]')) note.hidden = info.guidable;
  });
  byId('self-test').addEventListener('click', () => {
    void runTask(undefined, async () => {
      say('Checking this GPU…');
      await withModel((model) => model.selfTest());
      say('This GPU computes correctly.');
    });
  });
}
