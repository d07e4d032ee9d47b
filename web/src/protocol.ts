/**
 * What a {@link DuetWorker} and its worker tell each other.
 * @module
 */
import type { PlainError } from './errors.js';
import type {
  Classification,
  Estimate,
  ExplainAllOptions,
  ExplainOptions,
  Explanation,
  ExportOptions,
  ImageInput,
  LoadOptions,
  ModelInfo,
  SampleOptions,
  StepProgress,
  TrainOptions,
  TrainProgress,
  TrainResult,
  Usage,
} from './types.js';
import type { CheckProgress, DeviceReport } from './types-check.js';
import type { EvaluateOptions, EvaluateProgress, Evaluation } from './types-evaluate.js';
import type { CreateOptions, PrepareAllOptions, PreparedImages, Recipe, RecipeTrainResult, TrainingEvent } from './types-train.js';

/** Options on their way; `watched`: whether steps are heard of. */
export type Sent<T> = Omit<T, 'onStep' | 'signal'> & { watched: boolean };

/** Labelled images on their way. */
export interface SentImages {
  images: Uint8Array;
  labels: ArrayLike<number | string | null>;
}

/** A training on its way; of what its client hears only if it is wanted, which costs something. */
export interface SentTraining extends SentImages {
  recipe?: Recipe;
  heldOut?: SentImages;
  keep?: string;
  otherwise?: boolean;
  /** Whether samples are heard of. */
  samples: boolean;
  /** Whether each step waits for the client. */
  waits: boolean;
}

/** Calls by name: what goes in and what comes back. Functions and signals travel as messages of their own. */
export interface Calls {
  load: [[source: string | Blob | ArrayBuffer | Uint8Array, options: Pick<LoadOptions, 'wasm' | 'training'>], ModelInfo];
  create: [[recipe: Recipe, options: Pick<CreateOptions, 'wasm' | 'seed'>], ModelInfo];
  checkDevice: [[options: Pick<LoadOptions, 'wasm'>], DeviceReport];
  prepare: [[image: ImageInput], ImageData];
  classifyAll: [[images: ImageInput[]], Classification[]];
  predictNoise: [[images: ImageInput[], timesteps: number | number[]], Float32Array[]];
  sample: [[options: Omit<SampleOptions, 'onStep' | 'signal'>], ImageData[]];
  explain: [[image: ImageInput, options: Sent<ExplainOptions>], Explanation];
  explainAll: [[image: ImageInput, options: Sent<ExplainAllOptions>], Explanation[]];
  invert: [[image: ImageInput, options: Sent<ExplainAllOptions>], void];
  train: [[options: Omit<TrainOptions, 'onStep' | 'signal'>], TrainResult];
  trainByRecipe: [[options: SentTraining], RecipeTrainResult];
  prepareAll: [[options: Pick<PrepareAllOptions, 'skipUnreadable'>], PreparedImages];
  evaluate: [[labels: ArrayLike<number | string>, options: Omit<EvaluateOptions, 'onProgress' | 'signal'>], Evaluation];
  export: [[options: ExportOptions], Uint8Array];
  estimate: [[options: { batch?: number }], Estimate];
  usage: [[], Usage];
  selfTest: [[], void];
  dispose: [[], void];
}

/** Progress of a call. */
export type Progress = StepProgress | TrainProgress | EvaluateProgress | CheckProgress | TrainingEvent | { done: number } | { loaded: number; total: number | undefined };

/** An image on its way, or what is wrong with it. */
export type Supplied = ImageInput | { unreadable: string };

/** To the worker. */
export type Request =
  | { [K in keyof Calls]: { id: number; call: K; arguments: Calls[K][0] } }[keyof Calls]
  | { id: number; abort: true }
  /** The next images of a call that wanted some, or why one cannot be read; none: there are no more. */
  | { id: number; images: Supplied[] }
  /** The step that a training waits with may be done. */
  | { id: number; go: true }
  /** Stop all calls, and end. Browsers end workers without asking them. */
  | { end: true };

/** From the worker. */
export type Response =
  | { id: number; progress: Progress }
  /** So many more images at most. */
  | { id: number; wants: number }
  /** A training waits before this step. */
  | { id: number; before: number }
  | { id: number; result: unknown; info?: ModelInfo }
  | { id: number; error: PlainError; info?: ModelInfo };
