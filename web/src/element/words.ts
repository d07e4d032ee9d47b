/**
 * What the element says, to be replaced by words in another language.
 * @module
 */
import type { Explanation, ModelInfo } from '../types.js';

/** The words of a `<duet-explainer>`. */
export interface ExplainerWords {
  /** In the empty field for the image. */
  drop: string;
  /** Names the field to a screen reader. */
  choose: string;
  /** While the model comes; `share` is how much of it is there, where the server tells. */
  loading: (share: number | undefined) => string;
  /** Before the list of classes. */
  target: string;
  /** On the button. */
  explain: string;
  /** On the button that stops. */
  cancel: string;
  /** While a counterfactual is made. */
  explaining: string;
  /** Under the three pictures. */
  original: string;
  counterfactual: string;
  difference: string;
  /** Tells what the colours of the difference mean. */
  differenceKey: string;
  /** A label that would be added or taken away. */
  flip: (label: string, present: boolean) => string;
  /** What the model sees. */
  sees: (label: string, probability: string) => string;
  /** What came of a question. */
  verdict: (explanation: Explanation, info: ModelInfo) => string;
}

/** "97 %", and never a false 0 or 100. */
export function percent(probability: number): string {
  if (probability > 0 && probability < 0.005) return '<1\u00a0%';
  if (probability < 1 && probability > 0.995) return '>99\u00a0%';
  return `${Math.round(100 * probability)}\u00a0%`;
}

/** The decision before and after, and how much of the picture it took. */
function verdict({ before, after, target, reached, meanChange }: Explanation, info: ModelInfo): string {
  const several = info.head === 'multi_label';
  const said = ({ best, label, probabilities }: Explanation['before']): string =>
    several
      ? `${info.classNames[target] ?? target} ${percent(probabilities[target] ?? 0)}`
      : `${label} ${percent(probabilities[best] ?? 0)}`;
  const outcome = reached ? 'the decision changed' : 'the decision did not become what was asked for';
  return `${said(before)} → ${said(after)}: ${outcome}; the mean change is ${percent(meanChange)} of the range.`;
}

/** English. */
export const ENGLISH: ExplainerWords = {
  drop: 'Drop an image here, paste one, or choose a file',
  choose: 'Choose an image',
  loading: (share) => (share === undefined ? 'Loading the model…' : `Loading the model: ${percent(share)}`),
  target: 'What would make it',
  explain: 'Explain',
  cancel: 'Cancel',
  explaining: 'Looking for what would have to change',
  original: 'Original',
  counterfactual: 'Counterfactual',
  difference: 'Difference',
  differenceKey: 'blue where darker, red where brighter',
  flip: (label, present) => (present ? `with ${label}` : `without ${label}`),
  sees: (label, probability) => `The model sees: ${label}, ${probability}`,
  verdict,
};
