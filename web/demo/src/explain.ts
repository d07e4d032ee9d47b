/** The tab that explains a decision. */

import type { DuetModel, StepProgress } from 'duet-diffusion';
import { askedOptions, askedTarget, askedWords, offerTargets, proposeTarget, startAsk } from './ask';
import { classifySoon } from './classify';
import { byId } from './dom';
import { editorCopy, editorImage, editorSource, fitEditor, onImage, setImage, startEditor } from './editor';
import { outdateExplanation, type Result, showResult, startResult } from './explain-result';
import { percent } from './format';
import { takePictures } from './incoming';
import { noteLink } from './link';
import { maskOver, startMask } from './mask';
import { report, say } from './notice';
import { markSample } from './samples';
import { onModel, withModel } from './session';
import { runTask } from './task';

const progress = byId<HTMLProgressElement>('explain-progress');
const progressText = byId('explain-progress-text');

/** Tells of a chain's steps; of one answer also how probable the target is. */
function stepTeller(name?: string): (step: StepProgress) => void {
  return ({ done, total, curve }) => {
    progress.max = total;
    progress.value = done;
    const now = curve?.[curve.length - 1];
    progressText.textContent = `${done} of ${total}${now === undefined ? '' : ` · ${name ?? ''} ${percent(now)}`}`;
  };
}

/** Asks, shows what comes of it, and notes the question in the page's address. */
async function ask(question: (model: DuetModel) => Promise<Pick<Result, 'kind' | 'answers' | 'stability'>>): Promise<void> {
  progress.removeAttribute('value');
  progressText.textContent = '';
  say('Explaining…');
  const settings = askedWords();
  const noise = askedOptions().noise ?? 0;
  await withModel(async (model) => {
    const made = await question(model);
    noteLink();
    say(`Done. ${showResult({ ...made, info: model.info, noise, settings })}.`);
  });
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  byId('result').scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'nearest' });
}

/** Explains towards one target. */
async function explain(signal: AbortSignal): Promise<void> {
  const { target, name, variants } = askedTarget();
  const options = askedOptions();
  await ask(async (model) => {
    const onStep = stepTeller(target.present ? name : `no ${name}`);
    const made = await model.explain(editorImage(), { ...options, target, variants, signal, onStep });
    if (made.variants) return { kind: 'variants', answers: made.variants, stability: made.stability };
    return { kind: 'one', answers: [made] };
  });
}

/** Explains towards every target. */
async function explainAll(signal: AbortSignal): Promise<void> {
  const options = askedOptions();
  await ask(async (model) => {
    const answers = await model.explainAll(editorImage(), { ...options, signal, onStep: stepTeller() });
    return { kind: 'all', answers };
  });
}

/** Once the classes are shown: what questions share is done while the visitor chooses one. */
async function readyForQuestions(): Promise<void> {
  try {
    const options = askedOptions();
    if (options.method === 'paper') return;
    await withModel((model) => model.invert(editorImage(), options));
  } catch (error) {
    // Nobody has asked yet: what is wrong is said when somebody does.
    console.debug(error);
  }
}

/** Wires the tab. */
export function startExplain(): void {
  startAsk();
  startEditor();
  startMask();
  startResult();
  const decided = (probabilities: Float32Array): void => {
    proposeTarget(probabilities);
    void readyForQuestions();
  };
  onImage((drawing) => {
    markSample(editorSource());
    maskOver(editorCopy());
    classifySoon(drawing, decided);
  });
  takePictures(byId<HTMLInputElement>('upload'), byId('drop'), 1, setImage);

  onModel(({ info }, change) => {
    offerTargets(info);
    outdateExplanation(change);
    const refit = async (): Promise<void> => {
      await fitEditor(info.imageSize);
      maskOver(editorCopy());
      classifySoon(false, decided);
    };
    refit().catch(report);
  });

  const cancel = byId<HTMLButtonElement>('cancel');
  const form = byId<HTMLFormElement>('explain-form');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void runTask(cancel, explain);
  });
  byId('explain-all').addEventListener('click', () => {
    if (form.reportValidity()) void runTask(cancel, explainAll);
  });
}
