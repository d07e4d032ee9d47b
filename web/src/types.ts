/**
 * The interface of a loaded model, the same on the main thread ({@link Duet}) and through a worker ({@link DuetWorker}).
 * @module
 */
import type { EvaluateOptions, Evaluation, ImageSource } from './types-evaluate.js';
import type { PrepareAllOptions, PreparedImages, RecipeTrainOptions, RecipeTrainResult, TrainingState } from './types-train.js';

/** Numbers in −1..1 (Float32Array) or grey levels 0..255, in the order channel, row, column. */
export type Pixels = Float32Array | Uint8Array | Uint8ClampedArray;

/**
 * A decoded picture where there is no `ImageData`: bytes of its pixels row by row, 1 (grey), 3 (RGB) or 4 (RGBA, opacity not
 * multiplied in) each. What decoders of Node give mostly looks so.
 */
export interface PixelImage {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/**
 * An image going in. Pictures of another size are cropped to a centred square and resized; colour becomes grey where the
 * model has one channel; where they are transparent the model's ground shows. All of it is done by the function that the
 * command `duet` uses, so both see the same. A typed array must have exactly `channels · imageSize²` values.
 *
 * A file (`Blob` or `File`: PNG, JPEG, WebP, GIF's first picture, BMP, AVIF) is turned as its EXIF says, and its colours
 * are read as they are stored: colour profiles are not applied, here as in the command. A file that ends early is refused;
 * in all other kinds of pictures the browser has decoded before, with the profile applied, and shows what it found of a
 * broken file. So give files where you have them. A `<video>` gives the frame that it shows.
 *
 * Outside of browsers nothing decodes files: give {@link PixelImage}s.
 */
export type ImageInput =
  | Blob
  | ImageData
  | ImageBitmap
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLImageElement
  | HTMLVideoElement
  | VideoFrame
  | PixelImage
  | Pixels;

/** Where a checkpoint comes from: an address, in Node and Deno a path too, or the bytes of a `.safetensors` file. */
export type CheckpointSource = string | URL | Blob | ArrayBuffer | Uint8Array;

/** Options of {@link Duet.load}. */
export interface LoadOptions {
  /** Hears of the download: bytes so far, and of all where the server tells. */
  onProgress?: (loaded: number, total: number | undefined) => void;
  /** Stops loading. */
  signal?: AbortSignal;
  /**
   * The embedder's device. It is used, never destroyed, and not replaced when it is lost. Default: one of `navigator.gpu`; in
   * Node, which has none, of the npm package `webgpu` where it is installed.
   */
  device?: GPUDevice;
  /**
   * The WebAssembly module: its address, bytes, or the compiled module. Default: `wasm/duet_web_bg.wasm` beside this module or, where
   * your bundler copies no such files, beside your bundle.
   */
  wasm?: string | URL | ArrayBuffer | Uint8Array | WebAssembly.Module;
  /**
   * Keeps what a training goes on with, four times the weights' memory: the file must hold it. {@link DuetModel.trainByRecipe} then
   * goes on where it stopped. Without, a checkpoint of a training is its average alone.
   */
  training?: boolean;
}

/** What is known of a loaded model. */
export interface ModelInfo {
  /** Height and width of its images in pixels. */
  imageSize: number;
  /** Channels of its images: 1 grey, 3 colour. */
  channels: number;
  /** Classes, or labels of a multi-label model. */
  numClasses: number;
  /** Their names in order; numbers where the checkpoint has none. */
  classNames: string[];
  /** Whether an image has one class or any number of labels. */
  head: 'multiclass' | 'multi_label';
  /** Trainable parameters. */
  parameters: number;
  /** Timesteps of the whole chain. */
  diffusionSteps: number;
  /** Whether it tells noise; one that was trained to classify alone generates and explains nothing. */
  denoises: boolean;
  /** Whether the classifier saw noised images, so that guiding by it works. */
  guidable: boolean;
  /** Grey level of the ground its pictures lie on, 0 (black) to 255: what shows through where a picture is transparent. */
  ground: number;
  /** How pictures that are not square become square: their middle, all of them on the ground, or stretched. */
  fit: 'crop' | 'pad' | 'stretch';
  /** By what filter they are resized. */
  resize: 'lanczos' | 'bilinear';
  /** Pixels a side that they are resized to; where that is less than `imageSize`, the ground is around them. */
  resizeTo: number;
  /**
   * Percentile of the training data beyond which a picture counts as unlike them; `null` where the checkpoint does not
   * tell what they look like.
   */
  unlikeBeyond: number | null;
  /** Where a training by a recipe stands that goes on; `null` where there is none. */
  training: TrainingState | null;
  /** Free text of the checkpoint: data set, figures, licence. */
  info: Record<string, string>;
  /** The GPU. */
  adapter: string;
}

/** How an image compares with the training data, by how well the model tells noise from it. */
export interface Typicality {
  /** Per cent of the training images that are more typical than this one. */
  percentile: number;
  /** Whether so many are that the image is unlike the training data, and the classes say little. */
  unlike: boolean;
}

/** Answer of {@link DuetModel.classify}. */
export interface Classification {
  /** The most probable class. */
  best: number;
  /** Its name. */
  label: string;
  /** Probability of each class: softmax, or the sigmoid of each label. */
  probabilities: Float32Array;
  /** Whether the image is like the training data; `null` where the model's file does not say what those are like. */
  typicality?: Typicality | null;
  /** Whether the image lies on a plain ground that is the opposite of the model's: inverted it may be one that it knows. */
  oppositeGround?: boolean;
}

/** State of a chain after a step. */
export interface StepProgress {
  /** Steps done. */
  done: number;
  /** Steps in all, as far as is known: it grows where an explanation has to be tried with more strength. */
  total: number;
  /**
   * Probability of the target after each step so far of the chain under way, of one explanation towards one target. Empty
   * while the image is inverted; anew with each try.
   */
  curve?: Float32Array;
}

/** Options of every call that may be stopped. */
export interface CallOptions {
  /** Stops the call at the next step; it rejects with an {@link AbortedError}. */
  signal?: AbortSignal;
}

/** Options of every chain of denoising steps. */
export interface ChainOptions extends CallOptions {
  /** Steps of the whole chain: a number, or a respacing such as "10,10,5" or "ddim25". Default 50. */
  steps?: number | string;
  /** Step size α of Algorithm 1. Default 20 for samples, 60 for explanations by the paper's method. */
  alpha?: number;
  /** Seed of the noise, below 2⁵³. Default 0. The same seed gives the same image. */
  seed?: number;
  /**
   * DDIM's share of noise, 0 to 1. Default 1, ancestral sampling with the posterior's variance; 0 is deterministic but
   * for the first noise. "ancestral": the reference's sampling with "fixed large" variance, made for the whole chain.
   */
  eta?: number | 'ancestral';
  /** Hears of each step. */
  onStep?: (progress: StepProgress) => void;
}

/** Options of {@link DuetModel.sample}. */
export interface SampleOptions extends ChainOptions {
  /** Class of every image (number or name), one for each, or none for unguided samples. */
  class?: number | string | (number | string)[];
  /** Images. Default 1, or as many as there are classes given. */
  count?: number;
}

/** How a counterfactual is made. */
export type ExplainMethod = 'local' | 'paper';

/**
 * What an image is to become: a class by number or name. Of a model with several labels the label that is to be there; as
 * `"-NAME"` or with `present: false` the one that is to be there no longer (`"+NAME"` says the first in so many words).
 */
export type ExplainTarget = number | string | { class: number | string; present?: boolean };

/** Options of {@link DuetModel.explainAll}. */
export interface ExplainAllOptions extends ChainOptions {
  /**
   * How: `"local"` changes the image only where guidance changes it, by an exact inversion and a mask at every step;
   * `"paper"` is the paper's chain, Algorithm 1 from fresh noise. Default `"local"`, or `"paper"` where its options `alpha` or
   * `eta` are given.
   */
  method?: ExplainMethod;
  /** What steers: the gradient on the image or the paper's Algorithm 1. Default: the gradient; of the paper's chain Algorithm 1. */
  guidance?: 'gradient' | 'representation';
  /**
   * Local: strength of the first try. An image that it does not move to its target is tried with √2 times as much, three times.
   * Default 1.7, then 2.4, 3.4, 4.8; 1.4 changes less and convinces less; 0 gives the image itself. It is the push of the whole
   * image, the same for images of any size.
   */
  strength?: number;
  /**
   * Local: how much the mean over a small box of pixels must differ from the image's own path, in units of −1..1, to change the
   * image there. Default 0.2; 0: anywhere.
   */
  locality?: number;
  /** Local, of a model with several labels: weight of keeping the others. Default 1. */
  keep?: number;
  /** Share of the chain the image is noised by, above 0 to 1. Default 0.2. */
  noise?: number;
  /**
   * Where the image may change: white may, black may not. A picture, or `imageSize²` values: 0 to 1 in a Float32Array,
   * 0 to 255 in an array of bytes.
   */
  mask?: ImageInput;
}

/** Options of {@link DuetModel.explain}. */
export interface ExplainOptions extends ExplainAllOptions {
  /** What the image is to become. */
  target: ExplainTarget;
  /** Answers to find, by as many seeds from `seed` on. Default 1. */
  variants?: number;
}

/** A counterfactual: what would have to change for the decision to change. */
export interface Explanation {
  /** The image as the model saw it, resized. */
  original: ImageData;
  /** The image noised part of the way, to where the chain began. */
  noised: ImageData;
  /** The counterfactual. */
  counterfactual: ImageData;
  /** Heat map of the difference, the same scale for every image: blue darker, red brighter, white unchanged. */
  difference: ImageData;
  /** Counterfactual minus original in −2..2, in the order channel, row, column. */
  differenceValues: Float32Array;
  /** Counterfactual in −1..1, in the order channel, row, column. */
  counterfactualValues: Float32Array;
  /** The target's number. */
  target: number;
  /** Of a label, whether it was to be added (`true`) or taken away. A class is always `true`. */
  present: boolean;
  /** What the model says of the original. */
  before: Classification;
  /** What it says of the counterfactual, its class and probabilities, and whether it is like the training data. */
  after: Classification;
  /** Probability of the target after each step, of the noised image on its way. */
  curve: Float32Array;
  /** Whether it is what it was to become: of several labels that one changed and no other. */
  reached: boolean;
  /** Of several labels, how many others' decisions changed. */
  moved: number;
  /** How it was made. */
  method: ExplainMethod;
  /** Which try it is of, from 0. */
  rung: number;
  /** Tries that there were to make. */
  rungs: number;
  /** Strength of that try; of the paper's method its α. */
  strength: number;
  /** Tries that were made: where none reached the target, the most probable one is given. */
  chains: number;
  /** Mean absolute difference of a value, as a share of the range. */
  meanChange: number;
  /** Seed of its noise. */
  seed: number;
  /** How often parts of the network ran for it: an image that was inverted before is not inverted again. */
  passes: { encoder: number; decoder: number; backward: number };
  /**
   * All answers, where more than one was asked for: those that reached the target first, of these the one that changes least,
   * which this explanation is; then the others, the most probable first.
   */
  variants?: Explanation[];
  /**
   * Share of these answers that change each pixel by more than 8 grey levels of 255, in the order row, column; of those that
   * reached the target, where any did.
   */
  stability?: Float32Array;
}

/** State of training after a step. */
export interface TrainProgress {
  /** Steps done in this call. */
  done: number;
  /** Steps of this call. */
  total: number;
  /** Total loss of the step. */
  loss: number;
  /** Its noise error. */
  mse: number;
  /** Its classifier loss. */
  classifierLoss: number;
}

/** Options of {@link DuetModel.train}. */
export interface TrainOptions extends CallOptions {
  /** Images. */
  images: ImageInput[];
  /** Class of each image, by number or name; `null`: unlabelled, only the noise error counts. */
  labels: (number | string | null)[];
  /** Optimizer steps. Default 50. */
  steps?: number;
  /** Images per step, at least 2. Default 8. */
  batchSize?: number;
  /** Learning rate of AdamW. Default 1e-4. */
  learningRate?: number;
  /** Weight of the classifier's loss beside the noise error. Default 0.1. */
  classifierLossScaling?: number;
  /**
   * Seed of order, timesteps and noise. Default 0. A model that is trained again goes on: with the same options, two calls
   * of three steps are one of six, loss by loss.
   */
  seed?: number;
  /** Hears of each step. */
  onStep?: (progress: TrainProgress) => void;
}

/** Answer of {@link DuetModel.train}. */
export interface TrainResult {
  /** Steps done. */
  steps: number;
  /** Total loss of each step. */
  losses: Float32Array;
}

/** Options of {@link DuetModel.export}. */
export interface ExportOptions {
  /** Number type of the weights. Default f16. */
  dtype?: 'f16' | 'f32';
  /** Everything that a training by a recipe goes on with, here or by `duet train --resume --from`, as f32: its last checkpoint. */
  training?: boolean;
}

/** What one kind of call needs, known before anything is allocated. */
export interface PlanEstimate {
  /** Bytes of GPU memory of one run at this batch size, weights included. */
  bytes: number;
  /** Multiply-adds per run (one step of a chain). */
  multiplyAdds: number;
  /** Dispatches per run. */
  dispatches: number;
}

/** Answer of {@link DuetModel.estimate}. */
export interface Estimate {
  /** Images at a time the figures are for. */
  batch: number;
  /** Bytes of the weights. */
  weights: number;
  /** Classification. */
  classify: PlanEstimate;
  /** One step of {@link DuetModel.sample}, or of {@link DuetModel.explain} by the paper's method. */
  step: PlanEstimate;
  /** One step of {@link DuetModel.explain} by the local method, with room for the paths of inverted images. */
  explain: PlanEstimate;
  /** One step of {@link DuetModel.train}. */
  train: PlanEstimate;
}

/** Use of memory and GPU, to see that nothing grows. */
export interface Usage {
  /** GPU buffers alive. */
  buffers: number;
  /** Their bytes. */
  bufferBytes: number;
  /** Bytes of WebAssembly memory in use, by every model of the page or worker. */
  heapBytes: number;
  /** Bytes of WebAssembly memory: it never shrinks, and grows by leaps. */
  wasmBytes: number;
  /** Pipelines compiled since loading. */
  pipelines: number;
}

/** A loaded model. Calls queue up: one runs at a time. */
export interface DuetModel {
  /** What is known of the model. */
  readonly info: ModelInfo;
  /** Class probabilities of an image. */
  classify(image: ImageInput, options?: CallOptions): Promise<Classification>;
  /**
   * The image as the model sees it: upright, over the model's ground, cropped, grey where the model is, resized. Waits
   * for no other call.
   */
  prepare(image: ImageInput): Promise<ImageData>;
  /** Class probabilities of several images, a batch at a time. */
  classifyAll(images: ImageInput[], options?: CallOptions): Promise<Classification[]>;
  /**
   * The noise that the network sees in noised images, each at its timestep of the whole chain (one number: all at that
   * one), in the order channel, row, column: the one question that every sampler asks, for samplers of your own.
   */
  predictNoise(images: ImageInput[], timesteps: number | number[], options?: CallOptions): Promise<Float32Array[]>;
  /** New images. */
  sample(options?: SampleOptions): Promise<ImageData[]>;
  /**
   * A counterfactual of an image. The inversions of the last images are kept: another target or strength for the same image
   * and seed costs a chain alone.
   */
  explain(image: ImageInput, options: ExplainOptions): Promise<Explanation>;
  /**
   * Counterfactuals of an image towards every other class, in their order; of a model with several labels one for each label,
   * flipped. The image is inverted once.
   */
  explainAll(image: ImageInput, options?: ExplainAllOptions): Promise<Explanation[]>;
  /**
   * Does what questions about an image share, before one is asked: compiles what answers them and inverts the image. A question
   * with the same noise, steps and seed then costs a chain alone, the first one too. A page calls it while its visitor chooses.
   */
  invert(image: ImageInput, options?: ExplainAllOptions): Promise<void>;
  /**
   * Fine-tunes the model on labelled images; called again it goes on where it stopped. A call that is aborted keeps what it
   * learned; after one that fails (a lost device, a loss that is not finite) the model is as it was before.
   */
  train(options: TrainOptions): Promise<TrainResult>;
  /**
   * How good the model is on labelled images: accuracy, calibration, what classes are taken for, and how well it tells noise. `labels`
   * has the class of each image, by number or name. Of models whose images have one class each.
   *
   * @throws {@link BadInputError} for no images, as many labels as there are not images, a label that is no class, a picture that
   * cannot be read (see `skipUnreadable`), or a model of several labels.
   */
  evaluate(images: ImageSource, labels: ArrayLike<number | string>, options?: EvaluateOptions): Promise<Evaluation>;
  /**
   * Trains by a recipe, on from where an earlier one stopped; what the command's `duet train` does, with images in memory. Afterwards
   * the model is the weights' average. A call that is aborted keeps what it learned, as a checkpoint; one that fails leaves the model
   * as it was, and its last checkpoint. Where a device of our own is lost it goes on from that, to the same bits.
   *
   * @throws {@link BadInputError} whose `field` names what is wrong with the recipe, or does not fit the training that goes on.
   */
  trainByRecipe(options: RecipeTrainOptions): Promise<RecipeTrainResult>;
  /**
   * Images as the model sees them, as bytes: what {@link DuetModel.trainByRecipe} takes of large sets. Waits for no other call.
   *
   * @throws {@link BadInputError} for a picture that cannot be read (see `skipUnreadable`).
   */
  prepareAll(images: ImageSource, options?: PrepareAllOptions): Promise<PreparedImages>;
  /** The model as a `.safetensors` file that every part of Duet reads. Default f16. */
  export(options?: ExportOptions): Promise<Uint8Array>;
  /** What calls need, before anything is allocated. */
  estimate(options?: { batch?: number }): Promise<Estimate>;
  /** Use of memory and GPU now. */
  usage(): Promise<Usage>;
  /** Runs a small training step and compares it with stored numbers: some drivers compute wrongly. */
  selfTest(): Promise<void>;
  /**
   * Frees everything. The embedder's device stays. A call that is running rejects at its next step or batch, and those that wait
   * reject when their turn comes, all with code "disposed".
   */
  dispose(): Promise<void>;
}
