/** Shows what came of a question: pictures, the decision in words, what changed, probabilities and the way there. */

import type { Explanation, ModelInfo } from 'duet-diffusion';
import { showComparison } from './bars';
import { type Changes, changesOf, drawOutlines, shareOf, touched } from './changes';
import { Chart } from './chart';
import { byId, make } from './dom';
import { percent, plural } from './format';
import { showGallery } from './gallery';
import { copyLink } from './link';
import { outdated } from './messages';
import { report } from './notice';
import { show } from './picture';
import type { Change } from './session';
import { saveSheet } from './sheet';
import { showStage, startStage } from './stage';
import { honestyOf, nameOf, verdictOf } from './verdict';

const curve = new Chart(byId('curve'));

/** What a question came to. */
export interface Result {
  /** What was asked: one target, several answers to that, or every target. */
  kind: 'one' | 'variants' | 'all';
  answers: Explanation[];
  /** Of several answers to one question. */
  stability?: Float32Array | undefined;
  info: ModelInfo;
  /** Share of noise, and all settings in words. */
  noise: number;
  settings: string;
}

let present: Result | undefined;

/** The answer that says most: of those that reached their targets the one that changes least. */
function best({ answers }: Result): number {
  const order = [...answers.keys()].sort((a, b) => {
    const [one, other] = [answers[a]!, answers[b]!];
    return Number(other.reached) - Number(one.reached) || one.meanChange - other.meanChange;
  });
  return order[0] ?? 0;
}

/** What an answer changes, stable or not where there are several to one question. */
function changes(result: Result, answer: Explanation): Changes {
  return changesOf(answer, result.kind === 'variants' ? result.stability : undefined);
}

/** Shows a result, and returns the verdict on what is shown large, in words. */
export function showResult(result: Result): string {
  present = result;
  const { answers, kind, info } = result;
  const heading =
    kind === 'all'
      ? info.head === 'multi_label'
        ? 'Each label flipped'
        : 'Towards every other class'
      : `${plural(answers.length, 'answer')}, least change first`;
  const names = answers.map((answer, i) => (kind === 'all' ? nameOf(answer, info) : `Answer ${i + 1}`));
  const chosen = kind === 'all' ? best(result) : 0;
  const choose = (index: number): void => {
    const answer = answers[index];
    if (answer) showLarge(result, answer);
  };
  // Shown before the charts are drawn: they take the width of their boxes.
  byId('result').hidden = false;
  byId('result-outdated').hidden = true;
  showGallery(
    heading,
    answers.map((explanation, i) => ({ explanation, name: names[i] ?? '' })),
    chosen,
    choose,
  );
  choose(chosen);
  return answers[chosen] ? verdictOf(answers[chosen], info).words : 'there is no other class';
}

/** Shows one answer large. */
function showLarge(result: Result, explanation: Explanation): void {
  const { info, noise } = result;
  const name = info.classNames[explanation.target] ?? String(explanation.target);
  const { before, after, decision, changed } = verdictOf(explanation, info);

  const verdict = byId('verdict');
  verdict.dataset.changed = String(changed);
  verdict.replaceChildren(
    make('span', { className: 'verdict-before', textContent: before }),
    ' → ',
    make('span', { className: 'verdict-after', textContent: after }),
    ': ',
    make('span', { className: 'verdict-decision', textContent: decision }),
  );
  byId('honesty').textContent = honestyOf(explanation, info);
  const hint = byId('verdict-hint');
  hint.hidden = changed;
  hint.textContent =
    info.head === 'multiclass' && explanation.before.best === explanation.target
      ? `The model says ${name} already: choose another target to see what would change its mind.`
      : explanation.method === 'local'
        ? 'Try more strength or noise, or another seed.'
        : 'Try more noise, a larger α, or another seed.';

  const paper = explanation.method === 'paper';
  byId('noised-figure').hidden = !paper;
  byId('strip').classList.toggle('of-four', paper);
  const images: [string, ImageData, string][] = [
    ['result-original', explanation.original, `Original: ${before}`],
    ['result-noised', explanation.noised, `Noised by ${percent(noise)}`],
    ['result-counterfactual', explanation.counterfactual, `Counterfactual towards ${nameOf(explanation, info)}: ${after}`],
    ['result-difference', explanation.difference, 'Difference: blue where darker, red where brighter'],
  ];
  for (const [id, image, label] of images) {
    show(byId<HTMLCanvasElement>(id), image).setAttribute('aria-label', label);
  }
  byId('noised-caption').textContent = `Noised by ${percent(noise)}`;
  const where = changes(result, explanation);
  showStage(explanation, where);
  byId('outline-key').textContent =
    result.kind === 'variants'
      ? `Solid: what at least half of the ${plural(result.answers.length, 'answer')} change; dotted: fewer.`
      : '';
  showComparison(
    byId<HTMLTableElement>('comparison'),
    explanation.before,
    explanation.after,
    explanation.target,
    info.classNames,
  );

  const values = explanation.curve;
  const what = explanation.present ? name : `no ${name}`;
  const text =
    values.length > 0
      ? `Probability of ${what} on the way from noise: ${percent(values[0] ?? 0)} after the first step, ` +
        `${percent(values[values.length - 1] ?? 0)} after the last of ${plural(values.length, 'step')}.`
      : 'No steps were taken.';
  curve.show({
    values,
    start: 1,
    top: 1,
    xLabel: 'Denoising step',
    yLabel: `P(${what})`,
    format: percent,
    description: text,
  });
  byId('curve-text').textContent = text;
}

/** Says of a result that is shown that the model is another one now. */
export function outdateExplanation(change: Change): void {
  const note = byId('result-outdated');
  note.textContent = outdated(change, 'This explanation');
  note.hidden = false;
}

/** The result as a sheet: a row for each answer. */
async function saveResult(result: Result): Promise<void> {
  const { answers, kind, info, settings } = result;
  const rows = answers.map((answer, i) => {
    const where = changes(result, answer);
    const name = kind === 'all' ? nameOf(answer, info) : kind === 'variants' ? `Answer ${i + 1}` : undefined;
    const { after } = verdictOf(answer, info);
    return {
      ...(name !== undefined && { name }),
      tiles: [
        { image: answer.original, caption: i === 0 ? 'Original' : '' },
        {
          image: answer.original,
          caption: `Changed: ${percent(shareOf(touched(answer)))}`,
          over: (context: CanvasRenderingContext2D, side: number) => drawOutlines(context, where, side),
        },
        { image: answer.counterfactual, caption: answer.reached ? after : `${after}, not reached` },
        { image: answer.difference, caption: i === 0 ? 'Difference: blue darker, red brighter' : '' },
      ],
    };
  });
  const first = answers[0];
  const said = kind === 'all' || !first ? [] : [verdictOf(first, info).words, honestyOf(first, info)];
  const side = kind === 'one' ? undefined : 112;
  await saveSheet('duet-counterfactual.png', rows, [...said, settings], side);
}

/** Wires the result's own controls. */
export function startResult(): void {
  startStage();
  byId('result-save').addEventListener('click', () => {
    if (present) saveResult(present).catch(report);
  });
  byId('result-link').addEventListener('click', () => void copyLink());
}
