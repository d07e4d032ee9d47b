/** What came of an explanation, in words: the decision, and what it took, said by nobody but the model and the pixels. */

import type { Explanation, ModelInfo } from 'duet-diffusion';
import { shareOf, touched } from './changes';
import { percent, share } from './format';

/** The decision before and after. */
export interface Verdict {
  before: string;
  after: string;
  decision: string;
  changed: boolean;
  /** All of it in one line. */
  words: string;
}

/** What an explanation was to reach: a class, or a label added or taken away. */
export function nameOf({ target, present }: Explanation, info: ModelInfo): string {
  const name = info.classNames[target] ?? String(target);
  return info.head === 'multi_label' ? `${present ? '+' : '−'} ${name}` : name;
}

/** The decision before and after an explanation. */
export function verdictOf(explanation: Explanation, info: ModelInfo): Verdict {
  const { before, after, target } = explanation;
  const verdict = (was: string, is: string, decision: string, changed: boolean): Verdict => ({
    before: was,
    after: is,
    decision,
    changed,
    words: `${was} → ${is}: ${decision}`,
  });
  if (info.head === 'multi_label') {
    // Each label is a decision of its own: the target's is the one in question.
    const name = info.classNames[target] ?? String(target);
    const [was, is] = [before.probabilities[target] ?? 0, after.probabilities[target] ?? 0];
    const changed = was > 0.5 !== is > 0.5;
    const decision = changed ? `the decision changed, ${name} is ${is > 0.5 ? 'added' : 'taken away'}` : 'the decision did not change';
    return verdict(`${name} ${percent(was)}`, percent(is), decision, changed);
  }
  const words = (answer: typeof before): string => `${answer.label} ${percent(answer.probabilities[answer.best] ?? 0)}`;
  const changed = before.best !== after.best;
  return verdict(words(before), words(after), changed ? 'the decision changed' : 'the decision did not change', changed);
}

/** Which labels changed that were to be kept. */
function movedLabels({ before, after, target }: Explanation, info: ModelInfo): string[] {
  return info.classNames.filter(
    (_, c) => c !== target && (before.probabilities[c] ?? 0) > 0.5 !== (after.probabilities[c] ?? 0) > 0.5,
  );
}

/** How the target was reached. */
function effort({ method, reached, rung, rungs, chains, strength }: Explanation): string {
  if (method === 'paper' || rungs === 1) return reached ? 'reached' : 'not reached';
  if (!reached) return `not reached in ${chains} tries`;
  return rung === 0 ? 'reached at the first try' : `reached at rung ${rung + 1} of ${rungs}, strength ${strength.toFixed(1)}`;
}

/** One line on what it took: how much changes, at which try, what else moved, and whether it is like the training data. */
export function honestyOf(explanation: Explanation, info: ModelInfo): string {
  const parts = [`changes ${percent(shareOf(touched(explanation)))} of the picture`, effort(explanation)];
  if (info.head === 'multi_label') {
    const moved = movedLabels(explanation, info);
    parts.push(moved.length === 0 ? 'no other label moved' : `moved as well: ${moved.join(', ')}`);
  }
  const likeness = explanation.after.typicality;
  if (likeness) {
    parts.push(`unlike training data: ${likeness.unlike ? `yes, beyond ${share(likeness.percentile)} of them` : 'no'}`);
  }
  const line = `${parts.join('; ')}.`;
  return `${line[0]?.toUpperCase()}${line.slice(1)}`;
}
