/**
 * What {@link DuetModel.evaluate} is asked, and what it answers.
 * @module
 */
import type { CallOptions, DuetModel, ImageInput } from './types.js';

/**
 * Labelled images of {@link DuetModel.evaluate}, one after the other: a list, or whatever gives them in turn. Each is asked for when
 * its turn comes, a few ahead at most, so that a test set need not be in memory as a whole.
 */
export type ImageSource = Iterable<ImageInput> | AsyncIterable<ImageInput>;

/** State of an evaluation. */
export interface EvaluateProgress {
  /** Images done, those left out among them. */
  done: number;
  /** Images in all. */
  total: number;
}

/** Options of {@link DuetModel.evaluate}. */
export interface EvaluateOptions extends CallOptions {
  /**
   * At how many timesteps the noise error is measured: the middles of as many equal parts of the chain. Default 10, or none of a model
   * that only classifies; 0: not at all.
   */
  noiseErrorTimesteps?: number;
  /** Of how many images it is measured, spread over all; each costs a pass of the whole network for each timestep. Default 200. */
  noiseErrorImages?: number;
  /** Seed of the noise, below 2⁵³. Default 0. */
  seed?: number;
  /** Leaves images out that cannot be read, and tells them in the answer. Default: the first one fails the call. */
  skipUnreadable?: boolean;
  /** Hears of each batch. */
  onProgress?: (progress: EvaluateProgress) => void;
}

/** Images whose largest probability lies in one interval (low, high]. */
export interface CalibrationBin {
  /** Lower end, which belongs to the bin below. */
  low: number;
  /** Upper end, which belongs to this one. */
  high: number;
  /** How many images. */
  count: number;
  /** Mean of their largest probability; `null` where there are none. */
  confidence: number | null;
  /** Share whose most probable class is theirs; `null` where there are none. */
  accuracy: number | null;
}

/** How one class fared. */
export interface ClassFigures {
  /** Its name. */
  class: string;
  /** Its images. */
  images: number;
  /** Share of its images that are taken for it; `null` where it has none. */
  recall: number | null;
  /** Share of the images taken for it that are of it; `null` where nothing is. */
  precision: number | null;
}

/** The noise error at a timestep. */
export interface NoiseErrorAt {
  /** The timestep of the whole chain, from the image's end. */
  timestep: number;
  /** Mean squared error of what the network predicts: the noise, of most models. */
  error: number;
  /** Standard error of that mean over images; `null` of a single image. */
  standardError: number | null;
}

/** Answer of {@link DuetModel.evaluate}: the figures that `duet eval` gives, by the same code. */
export interface Evaluation {
  /** Images that the figures are of. */
  images: number;
  /** Share whose most probable class is theirs. */
  accuracy: number;
  /** Mean of the largest probability. */
  confidence: number;
  /**
   * Expected calibration error, 0 to 1: |confidence − accuracy| of each bin, weighted by its share of the images (Guo et al., "On
   * calibration of modern neural networks", 2017).
   */
  ece: number;
  /** Mean of −ln p of an image's class, in nats. */
  nll: number;
  /** Mean over images of the squared distance of the probabilities from the truth, 0 to 2 (Brier 1950). */
  brier: number;
  /** The bins behind `ece`, 15 of one width from the least sure. */
  bins: CalibrationBin[];
  /** A row for each true class: how many of its images were taken for each class. */
  confusion: number[][];
  /** Each class, by number. */
  perClass: ClassFigures[];
  /** By timestep, from little noise to much; empty where it was not asked for. */
  noiseError: NoiseErrorAt[];
  /** Images that it is of. */
  noiseErrorImages: number;
  /** Images left out by `skipUnreadable`: their places among those given, from 0, and what is wrong with them. */
  unreadable: { index: number; message: string }[];
  /** How all of it was measured, in sentences that belong beside the figures. */
  protocol: string;
}
