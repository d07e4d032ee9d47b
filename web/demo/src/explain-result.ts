/** Shows a counterfactual: images, the decision in words, probabilities and the way there. */

import type { Explanation, ModelInfo } from 'duet-diffusion';
import { showComparison } from './bars';
import { Chart } from './chart';
import { byId, make } from './dom';
import { percent, plural } from './format';
import { outdated } from './messages';
import { report } from './notice';
import { show } from './picture';
import type { Change } from './session';
import { saveSheet } from './sheet';

const curve = new Chart(byId('curve'));
let present: { explanation: Explanation; noise: number; words: string } | undefined;

/** The decision before and after. */
interface Verdict {
  before: string;
  after: string;
  changed: boolean;
}

function verdictOf(explanation: Explanation, info: ModelInfo): Verdict {
  const { before, after, target } = explanation;
  if (info.head === 'multi_label') {
    // Each label is a decision of its own: the target's is the one in question.
    const name = info.classNames[target] ?? String(target);
    const [was, is] = [before.probabilities[target] ?? 0, after.probabilities[target] ?? 0];
    return { before: `${name} ${percent(was)}`, after: percent(is), changed: was >= 0.5 !== is >= 0.5 };
  }
  const words = (answer: typeof before): string =>
    `${answer.label} ${percent(answer.probabilities[answer.best] ?? 0)}`;
  return { before: words(before), after: words(after), changed: before.best !== after.best };
}

/** Shows an explanation, and returns its verdict in words. */
export function showExplanation(explanation: Explanation, info: ModelInfo, noise: number): string {
  const name = info.classNames[explanation.target] ?? String(explanation.target);
  const { before, after, changed } = verdictOf(explanation, info);
  const decision = changed ? 'the decision changed' : 'the decision did not change';
  const words = `${before} → ${after}: ${decision}`;
  present = { explanation, noise, words };

  const verdict = byId('verdict');
  verdict.dataset.changed = String(changed);
  verdict.replaceChildren(
    make('span', { className: 'verdict-before', textContent: before }),
    ' → ',
    make('span', { className: 'verdict-after', textContent: after }),
    ': ',
    make('span', { className: 'verdict-decision', textContent: decision }),
  );
  const hint = byId('verdict-hint');
  hint.hidden = changed;
  hint.textContent =
    info.head === 'multiclass' && explanation.before.best === explanation.target
      ? `The model says ${name} already: choose another target to see what would change its mind.`
      : 'Try more noise, a larger α, or another seed.';
  byId('result-outdated').hidden = true;

  const images: [string, ImageData, string][] = [
    ['result-original', explanation.original, `Original: ${before}`],
    ['result-noised', explanation.noised, `Noised by ${percent(noise)}`],
    ['result-counterfactual', explanation.counterfactual, `Counterfactual towards ${name}: ${after}`],
    ['result-difference', explanation.difference, 'Difference: blue where darker, red where brighter'],
  ];
  for (const [id, image, label] of images) {
    show(byId<HTMLCanvasElement>(id), image).setAttribute('aria-label', label);
  }
  byId('noised-caption').textContent = `Noised by ${percent(noise)}`;
  showComparison(
    byId<HTMLTableElement>('comparison'),
    explanation.before,
    explanation.after,
    explanation.target,
    info.classNames,
  );

  // Shown before the chart is drawn: the chart takes the width of its box.
  byId('result').hidden = false;
  const values = explanation.curve;
  const text =
    values.length > 0
      ? `Probability of ${name} on the way from noise: ${percent(values[0] ?? 0)} after the first step, ` +
        `${percent(values[values.length - 1] ?? 0)} after the last of ${plural(values.length, 'step')}.`
      : 'No steps were taken.';
  curve.show({
    values,
    start: 1,
    top: 1,
    xLabel: 'Denoising step',
    yLabel: `P(${name})`,
    format: percent,
    description: text,
  });
  byId('curve-text').textContent = text;
  return words;
}

/** Says of a result that is shown that the model is another one now. */
export function outdateExplanation(change: Change): void {
  const note = byId('result-outdated');
  note.textContent = outdated(change, 'This explanation');
  note.hidden = false;
}

/** Wires the button that saves the strip. */
export function startSaving(): void {
  byId('result-save').addEventListener('click', () => {
    if (!present) return;
    const { explanation, noise, words } = present;
    const tiles = [
      { image: explanation.original, caption: 'Original' },
      { image: explanation.noised, caption: `Noised by ${percent(noise)}` },
      { image: explanation.counterfactual, caption: 'Counterfactual' },
      { image: explanation.difference, caption: 'Difference' },
    ];
    saveSheet('duet-counterfactual.png', [{ tiles }], words).catch(report);
  });
}
