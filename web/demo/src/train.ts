/** The tab that trains the model further. */

import type { TrainProgress } from 'duet-diffusion';
import { Chart } from './chart';
import { byId, download, fillSelect } from './dom';
import { editorCopy, editorName } from './editor';
import { bytes, figure, plural } from './format';
import { takePictures } from './incoming';
import { isCancel, PageError } from './messages';
import { say } from './notice';
import { sourceOf } from './picture';
import type { Sample } from './samples';
import { announceModel, onModel, withModel } from './session';
import { runTask } from './task';
import { addTrainingImage, setTrainingClasses, trainingData } from './train-list';

const steps = byId<HTMLInputElement>('train-steps');
const batch = byId<HTMLInputElement>('train-batch');
const rate = byId<HTMLSelectElement>('train-rate');
const progress = byId<HTMLProgressElement>('train-progress');
const progressText = byId('train-progress-text');
const summary = byId('train-summary');
const exportButton = byId<HTMLButtonElement>('train-export');
const chart = new Chart(byId('loss-curve'));
const sampleSelect = byId<HTMLSelectElement>('train-sample');
const addSample = byId<HTMLButtonElement>('train-add-sample');
const addAll = byId<HTMLButtonElement>('train-add-all');
let samples: Sample[] = [];
/** The file's name of the model that was trained here; nothing where the present model was not. */
let trained: string | undefined;
let modelName = '';

function showLosses(losses: number[], { done, total, loss, mse, classifierLoss }: TrainProgress): void {
  progress.max = total;
  progress.value = done;
  progressText.textContent = `step ${done} of ${total}`;
  byId('loss-total').textContent = figure(loss);
  byId('loss-mse').textContent = figure(mse);
  byId('loss-classifier').textContent = figure(classifierLoss);
  chart.show({
    values: losses,
    start: 1,
    end: total,
    xLabel: 'Step',
    yLabel: 'Loss',
    format: (value) => String(Number(value.toPrecision(2))),
    description: `Loss by step: ${figure(losses[0] ?? 0)} at first, ${figure(loss)} at step ${done} of ${total}.`,
  });
}

async function train(signal: AbortSignal): Promise<void> {
  const { images, labels } = trainingData();
  if (images.length === 0) throw new PageError('There is nothing to train on yet: add some images first.');
  const losses: number[] = [];
  let drawing = 0;
  progress.removeAttribute('value');
  progressText.textContent = '';
  await withModel(async (model) => {
    byId('train-loss').hidden = false;
    summary.textContent = '';
    say(`Training on ${plural(images.length, 'image')}…`);
    try {
      await model.train({
        images,
        labels,
        steps: steps.valueAsNumber,
        batchSize: batch.valueAsNumber,
        learningRate: Number(rate.value),
        signal,
        onStep: (step) => {
          losses.push(step.loss);
          // Steps may come faster than the screen shows them.
          cancelAnimationFrame(drawing);
          drawing = requestAnimationFrame(() => showLosses(losses, step));
        },
      });
      keepTrained(losses);
      say('Training is done. The other tabs use the trained model.');
    } catch (error) {
      // Stopped half-way, the model has learned all the same; after a failure it is the one of before.
      if (isCancel(error)) keepTrained(losses);
      else summary.textContent = `Training failed after ${plural(losses.length, 'step')}: the model is as it was before.`;
      throw error;
    }
  });
}

function keepTrained(losses: number[]): void {
  if (losses.length === 0) return;
  summary.textContent =
    `Trained for ${plural(losses.length, 'step')}: the loss went from ${figure(losses[0] ?? 0)} to ` +
    `${figure(losses[losses.length - 1] ?? 0)}. The other tabs use the trained model.`;
  trained = modelName;
  exportButton.hidden = false;
  announceModel('trained');
}

async function exportModel(): Promise<void> {
  say('Writing the model…');
  await withModel(async (model) => {
    const file = await model.export();
    const name = (trained ?? modelName).replace(/\.safetensors$/i, '').replace(/-trained$/, '');
    download(new Blob([file as BlobPart], { type: 'application/octet-stream' }), `${name}-trained.safetensors`);
    say(`The model was handed to the browser's downloads: ${bytes(file.byteLength)}.`);
  });
}

/** Offers the samples of a model for training. */
export function offerSamples(offered: Sample[]): void {
  samples = offered;
  fillSelect(
    sampleSelect,
    samples.map(({ label }, i) => [String(i), `${i + 1}. ${label}`]),
  );
  addSample.disabled = addAll.disabled = samples.length === 0;
}

/** Wires the tab. */
export function startTrain(): void {
  addSample.addEventListener('click', () => {
    const sample = samples[Number(sampleSelect.value)];
    if (!sample) return;
    addTrainingImage(sample.picture, sample.label);
    // The next press adds the next one.
    sampleSelect.value = String((Number(sampleSelect.value) + 1) % samples.length);
  });
  addAll.addEventListener('click', () => {
    for (const { picture, label } of samples) addTrainingImage(picture, label);
  });
  onModel(({ info }, change, name) => {
    setTrainingClasses(info.classNames);
    modelName = name;
    byId('train-labels-note').hidden = info.head !== 'multi_label';
    if (change === 'trained') return;
    // Nothing here is of the model that was loaded now.
    trained = undefined;
    exportButton.hidden = true;
    summary.textContent = '';
    byId('train-loss').hidden = true;
  });
  byId('train-add-drawing').addEventListener('click', () => addTrainingImage(sourceOf(editorCopy()), editorName()));
  takePictures(byId<HTMLInputElement>('train-upload'), byId('train-drop'), Infinity, (picture) =>
    addTrainingImage(picture, ''),
  );
  byId<HTMLFormElement>('train-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void runTask(byId<HTMLButtonElement>('train-cancel'), train);
  });
  exportButton.addEventListener('click', () => void runTask(undefined, exportModel));
}
