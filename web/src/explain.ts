/**
 * What the module answers to a question about an image, as explanations.
 * @module
 */
import { finite } from './guard.js';
import { toHeatMap, toImage } from './images.js';
import type { Classification, ExplainMethod, Explanation, ModelInfo } from './types.js';

/** One answer as the module gives it. */
interface Answer {
  noised: Float32Array;
  counterfactual: Float32Array;
  difference: Float32Array;
  before: Float32Array;
  after: Float32Array;
  curve: Float32Array;
  target: number;
  present: boolean;
  seed: number;
  reached: boolean;
  moved: number;
  rung: number;
  strength: number;
  chains: number;
  meanChange: number;
  passes: Explanation['passes'];
}

/** All that the module answers. */
export interface Answers {
  answers: Answer[];
  /** Strengths that there were to try. */
  rungs: number;
  /** Of several answers to one question. */
  stability?: Float32Array;
}

/** How images compare with the training data. */
export type Likeness = Pick<Classification, 'typicality' | 'oppositeGround'>;

/** What explanations are put together from, beside the answers. */
export interface Frame {
  info: ModelInfo;
  method: ExplainMethod;
  /** The image, in −1..1. */
  image: Float32Array;
  /** What is known of its likeness. */
  likeness: Likeness | undefined;
  /** A row of probabilities as an answer in words. */
  classification: (row: Float32Array) => Classification;
  /** The likeness of counterfactuals. */
  compare: (images: Float32Array[]) => Promise<Likeness[]>;
}

/** The explanations of answers, in their order. */
export async function explanations({ answers, rungs }: Answers, frame: Frame): Promise<Explanation[]> {
  const { info, method, image, likeness, classification } = frame;
  for (const answer of answers) {
    for (const [name, values] of Object.entries(answer)) if (values instanceof Float32Array) finite(name, values);
  }
  if (answers.length === 0) return [];
  const after = await frame.compare(answers.map(({ counterfactual }) => counterfactual));
  return answers.map((made, i) => ({
    original: toImage(image, info),
    noised: toImage(made.noised, info),
    counterfactual: toImage(made.counterfactual, info),
    difference: toHeatMap(made.difference, info),
    differenceValues: made.difference,
    counterfactualValues: made.counterfactual,
    target: made.target,
    present: made.present,
    before: { ...classification(made.before), ...likeness },
    after: { ...classification(made.after), typicality: after[i]?.typicality ?? null },
    curve: made.curve,
    reached: made.reached,
    moved: made.moved,
    method,
    rung: made.rung,
    rungs,
    strength: made.strength,
    chains: made.chains,
    meanChange: made.meanChange,
    seed: made.seed,
    passes: made.passes,
  }));
}
