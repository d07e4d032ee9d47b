/** Shows what was measured, and hands it out as JSON. */

import type { Evaluation } from 'duet-diffusion';
import { Chart } from './chart';
import { showConfusion } from './confusion';
import { fillTable } from './data-table';
import { byId, download } from './dom';
import { figure, plural, tenths } from './format';
import { outdated } from './messages';
import { Reliability } from './reliability';
import type { Change } from './session';

/** What was measured, of what. */
export interface Measured {
  evaluation: Evaluation;
  /** The model's file. */
  model: string;
  /** The test set, and how many of its images have a class of the model. */
  data: string;
  of: number;
  /** What was left out, in words. */
  leftOut: string[];
}

const reliability = new Reliability(byId('measure-reliability'));
const noise = new Chart(byId('measure-noise'));
let present: Measured | undefined;

/** The interval of a share that 95 of 100 such samples cover (Wilson 1927), which is of use for all right and for few images, too. */
export function wilson(share: number, count: number): [number, number] {
  const z = 1.96;
  const square = (z * z) / count;
  const middle = (share + square / 2) / (1 + square);
  const half = (z / (1 + square)) * Math.sqrt((share * (1 - share)) / count + square / (4 * count));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** A share, where there is one. */
function known(share: number | null): string {
  return share === null ? '–' : tenths(share);
}

/** The accuracy with how far chance goes, and whether the model is surer than it may be. */
function words({ evaluation, data, of }: Measured): string {
  const { images, accuracy, confidence } = evaluation;
  const [least, most] = wilson(accuracy, images);
  const part = images === of ? plural(images, 'image') : `${images.toLocaleString('en')} of ${plural(of, 'image')}`;
  const far = confidence - accuracy;
  const sure =
    Math.abs(far) < 0.0005
      ? 'its answers are as probable as it says'
      : `it says ${tenths(confidence)} on average, ${tenths(Math.abs(far))} too ${far > 0 ? 'sure' : 'modest'}`;
  return `${tenths(accuracy)} of the answers are right, on ${part} of ${data} (between ${tenths(least)} and ${tenths(most)} in 95 of 100 such samples); ${sure}.`;
}

function showReliability({ bins, ece }: Evaluation): void {
  const filled = bins.filter(({ count }) => count > 0);
  const range = (low: number, high: number): string => `${tenths(low)} to ${tenths(high)}`;
  const parts = filled.map(({ low, high, accuracy }) => `${range(low, high)}: ${known(accuracy)} right`);
  reliability.show({ bins, description: `Reliability by bin of probability. ${parts.join('; ')}. Expected calibration error ${tenths(ece)}.` });
  fillTable(
    byId('measure-bins'),
    'Images by the probability of their answer. Bins without images are left out.',
    ['Probability', 'Images', 'Mean', 'Right'],
    filled.map(({ low, high, count, confidence, accuracy }) => [
      range(low, high),
      count.toLocaleString('en'),
      known(confidence),
      known(accuracy),
    ]),
  );
}

function showNoise({ noiseError, noiseErrorImages }: Evaluation, diffusionSteps: number): void {
  byId('measure-noise-figure').hidden = noiseError.length === 0;
  const [first, last] = [noiseError[0], noiseError.at(-1)];
  if (!first || !last) return;
  const described = `Mean squared error ${figure(first.error)} at timestep ${first.timestep}, ${figure(last.error)} at ${last.timestep}`;
  noise.show({
    values: noiseError.map(({ error }) => error),
    at: noiseError.map(({ timestep }) => timestep),
    start: 0,
    end: diffusionSteps,
    xLabel: 'Timestep: image → noise',
    yLabel: 'Squared error',
    format: (value) => String(Number(value.toPrecision(2))),
    description: `Noise error by timestep. ${described}.`,
  });
  byId('measure-noise-text').textContent = `${described}; on ${plural(noiseErrorImages, 'image')}.`;
  fillTable(
    byId('measure-noise-table'),
    'Noise error by timestep.',
    ['Timestep', 'Squared error', 'Standard error'],
    noiseError.map(({ timestep, error, standardError }) => [
      String(timestep),
      figure(error),
      standardError === null ? '–' : figure(standardError),
    ]),
  );
}

/** Shows a measurement; returns it in a few words. */
export function showMeasured(measured: Measured, diffusionSteps: number): string {
  present = measured;
  const { evaluation } = measured;
  const { accuracy, ece, images, perClass, confusion, protocol } = evaluation;
  // Shown before the charts are drawn: they take the width of their boxes.
  byId('measure-result').hidden = false;
  byId('measure-outdated').hidden = true;
  byId('measure-accuracy').textContent = tenths(accuracy);
  byId('measure-ece').textContent = tenths(ece);
  byId('measure-images').textContent = images.toLocaleString('en');
  byId('measure-words').textContent = words(measured);
  byId('measure-protocol').textContent = protocol;
  showReliability(evaluation);
  showNoise(evaluation, diffusionSteps);
  showConfusion(
    byId('measure-confusion'),
    confusion,
    perClass.map((one) => one.class),
  );
  fillTable(
    byId('measure-classes'),
    'Recall: share of a class’s images taken for it. Precision: share of the images taken for it that are of it.',
    ['Class', 'Images', 'Recall', 'Precision'],
    perClass.map((one) => [one.class, one.images.toLocaleString('en'), known(one.recall), known(one.precision)]),
  );
  return `${tenths(accuracy)} of ${plural(images, 'image')} are recognised`;
}

/** Says of a measurement that is shown that its model has changed since. */
export function outdateMeasured(change: Change): void {
  const note = byId('measure-outdated');
  note.textContent = outdated(change, 'This measurement');
  note.hidden = present === undefined;
}

/** Wires the download. */
export function startMeasured(): void {
  byId('measure-save').addEventListener('click', () => {
    if (!present) return;
    const { evaluation, model, data, of, leftOut } = present;
    const text = JSON.stringify({ model, data, imagesOfData: of, leftOut, ...evaluation }, null, 1);
    const name = model.replace(/\.safetensors$/i, '');
    download(new Blob([text], { type: 'application/json' }), `${name}-measured.json`);
  });
}
