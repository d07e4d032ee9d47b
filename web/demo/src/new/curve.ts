/** What is seen of a training over its steps: losses, and right answers on held-out images. */

import type { HeldOutFigures, TrainingFigures } from 'duet-diffusion';
import { Chart } from '../chart';
import { byId } from '../dom';
import { figure, plural, tenths } from '../format';

/** Points that a chart draws at most; of more, neighbours are averaged. */
const MOST_POINTS = 300;
/** Points that are kept. */
const MOST_KEPT = 4000;

/** Means of the steps up to one. */
type Losses = Pick<TrainingFigures, 'done' | 'mse' | 'classifierLoss'>;

/** All that was seen so far, as it is kept beside the training. */
export interface Seen {
  losses: Losses[];
  looks: HeldOutFigures[];
}

const charts = {
  mse: new Chart(byId('new-mse-curve')),
  classifierLoss: new Chart(byId('new-classifier-curve')),
  accuracy: new Chart(byId('new-accuracy-curve')),
};

/** The means of neighbours, so that there are at most so many. */
function thinned(losses: Losses[], most: number): Losses[] {
  const each = Math.ceil(losses.length / most);
  if (each <= 1) return losses;
  const means: Losses[] = [];
  for (let from = 0; from < losses.length; from += each) {
    const part = losses.slice(from, from + each);
    const mean = (key: 'mse' | 'classifierLoss'): number => part.reduce((sum, one) => sum + one[key], 0) / part.length;
    means.push({ done: part.at(-1)!.done, mse: mean('mse'), classifierLoss: mean('classifierLoss') });
  }
  return means;
}

/** Adds losses; of very many, those before are halved. */
export function addLosses({ losses }: Seen, { done, mse, classifierLoss }: Losses): void {
  losses.push({ done, mse, classifierLoss });
  if (losses.length > MOST_KEPT) losses.splice(0, losses.length, ...thinned(losses, MOST_KEPT / 2));
}

/** What was seen up to a step: what came after it is done again. */
export function upTo(seen: Seen, step: number): Seen {
  return { losses: seen.losses.filter(({ done }) => done <= step), looks: seen.looks.filter((look) => look.step <= step) };
}

/** Draws the curves of a training of so many steps. */
export function drawCurves({ losses, looks }: Seen, total: number): void {
  const [first, last] = [losses[0], losses.at(-1)];
  byId('new-curves').hidden = first === undefined;
  for (const id of ['new-loss', 'new-classifier']) byId(id).textContent = '–';
  if (first && last) {
    const points = thinned(losses, MOST_POINTS);
    for (const [key, name] of [['mse', 'Noise error'], ['classifierLoss', 'Classifier loss']] as const) {
      charts[key].show({
        values: points.map((one) => one[key]),
        at: points.map(({ done }) => done),
        unmarked: true,
        start: 1,
        end: total,
        xLabel: 'Step',
        yLabel: name,
        format: (value) => String(Number(value.toPrecision(2))),
        description: `${name} by step: ${figure(first[key])} at first, ${figure(last[key])} at step ${last.done} of ${total}.`,
      });
    }
    byId('new-loss').textContent = figure(last.mse);
    byId('new-classifier').textContent = figure(last.classifierLoss);
  }
  const look = looks.at(-1);
  byId('new-accuracy-figure').hidden = look === undefined;
  byId('new-accuracy').textContent = look ? tenths(look.accuracy) : '–';
  if (!look) return;
  byId('new-accuracy-text').textContent = `of ${plural(look.images, 'image')} that it does not see in training`;
  charts.accuracy.show({
    values: looks.map(({ accuracy }) => accuracy),
    at: looks.map(({ step }) => step),
    start: 0,
    end: total,
    top: 1,
    xLabel: 'Step',
    yLabel: 'Right answers',
    format: (value) => `${Math.round(100 * value)}\u00a0%`,
    description: `Right answers on held-out images by step: ${looks.map(({ step, accuracy }) => `${tenths(accuracy)} at ${step}`).join(', ')}.`,
  });
}
