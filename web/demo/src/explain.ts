/** The tab that explains a decision. */

import { classifySoon } from './classify';
import { byId, fillSelect, showRange } from './dom';
import { editorCopy, editorImage, editorSource, fitEditor, onImage, setImage, startEditor } from './editor';
import { outdateExplanation, showExplanation, startSaving } from './explain-result';
import { percent, plural } from './format';
import { takePictures } from './incoming';
import { maskOver, maskValues, startMask } from './mask';
import { report, say } from './notice';
import { markSample } from './samples';
import { onModel, runTask, withModel } from './session';

const target = byId<HTMLSelectElement>('target');
const noise = byId<HTMLInputElement>('noise');
const alpha = byId<HTMLInputElement>('alpha');
const steps = byId<HTMLSelectElement>('steps');
const seed = byId<HTMLInputElement>('seed');
const progress = byId<HTMLProgressElement>('explain-progress');
const progressText = byId('explain-progress-text');

/** Whether the target was chosen by hand; until then it is the runner-up, the easiest to reach. */
let targetChosen = false;

function proposeTarget(probabilities: Float32Array): void {
  if (targetChosen || probabilities.length < 2) return;
  const order = [...probabilities.keys()].sort((a, b) => (probabilities[b] ?? 0) - (probabilities[a] ?? 0));
  target.value = String(order[1]);
}

async function explain(signal: AbortSignal): Promise<void> {
  const mask = maskValues();
  const share = noise.valueAsNumber;
  progress.removeAttribute('value');
  progressText.textContent = '';
  say('Explaining…');
  await withModel(async (model) => {
    const name = target.selectedOptions[0]?.textContent ?? '';
    const explanation = await model.explain(editorImage(), {
      target: Number(target.value),
      noise: share,
      alpha: alpha.valueAsNumber,
      steps: Number(steps.value),
      seed: seed.valueAsNumber,
      ...(mask ? { mask } : {}),
      signal,
      onStep: ({ done, total, curve }) => {
        progress.max = total;
        progress.value = done;
        const now = curve?.[curve.length - 1];
        progressText.textContent = `${done} of ${total}${now === undefined ? '' : ` · ${name} ${percent(now)}`}`;
      },
    });
    say(`Done. ${showExplanation(explanation, model.info, share)}.`);
  });
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  byId('result').scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'nearest' });
}

/** Wires the tab. */
export function startExplain(): void {
  const showNoise = showRange('noise', (value) => {
    const taken = Math.max(1, Math.round(value * Number(steps.value)));
    return `${percent(value)}, about ${plural(taken, 'step')}`;
  });
  steps.addEventListener('change', showNoise);
  showRange('alpha', String);
  target.addEventListener('change', () => {
    targetChosen = true;
  });

  startEditor();
  startMask();
  startSaving();
  onImage((drawing) => {
    markSample(editorSource());
    maskOver(editorCopy());
    classifySoon(drawing, proposeTarget);
  });
  takePictures(byId<HTMLInputElement>('upload'), byId('drop'), 1, setImage);

  onModel(({ info }, change) => {
    const before = target.selectedOptions[0]?.textContent;
    fillSelect(
      target,
      info.classNames.map((name, c) => [String(c), name]),
    );
    // A class that the new model does not have was not chosen.
    if (target.selectedOptions[0]?.textContent !== before) targetChosen = false;
    outdateExplanation(change);
    const refit = async (): Promise<void> => {
      await fitEditor(info.imageSize);
      maskOver(editorCopy());
      classifySoon(false, proposeTarget);
    };
    refit().catch(report);
  });

  byId<HTMLFormElement>('explain-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void runTask(byId<HTMLButtonElement>('cancel'), explain);
  });
}
