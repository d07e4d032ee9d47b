/**
 * Recipes as JSON, and training by them: sections and names are those of the command's TOML files.
 * @module
 */
import type { CallOptions, LoadOptions } from './types.js';
import type { ImageSource } from './types-evaluate.js';

/** A network. What is left out has the reference's value. */
export interface ModelConfig {
  /** Height and width of the square images in pixels. Default 28. */
  image_size?: number;
  /** Channels of the images: 1 grey (the default), 3 colour. */
  in_channels?: number;
  /** Base width of the network. Default 128. */
  num_channels?: number;
  /** Residual blocks of a level. Default 3. */
  num_res_blocks?: number;
  /** Width multiplier of each level. Default by image size: 28: 1,2,2; 32: 1,2,2,2; 64: 1,2,3,4. */
  channel_mult?: number[];
  /** Resolutions with attention. Default 16 and 8. */
  attention_resolutions?: number[];
  /** Attention heads. Default 4. */
  num_heads?: number;
  /** Attention heads of the decoder. Default `num_heads`. */
  num_heads_upsample?: number | null;
  /** Channels of an attention head, which overrides the number of heads. */
  num_head_channels?: number | null;
  /** Order of the queries', keys' and values' heads. */
  use_new_attention_order?: boolean;
  /** Whether the timestep scales and shifts GroupNorm's results. Default true. */
  use_scale_shift_norm?: boolean;
  /** Whether residual blocks resample. */
  resblock_updown?: boolean;
  /** Whether the network predicts the variance, too. */
  learn_sigma?: boolean;
  /** Dropout of residual blocks. Default 0. */
  dropout?: number;
  /** Groups of GroupNorm at most. Default 32. */
  num_groups?: number;
  /** Classes. Default 10. */
  num_classes?: number;
  /** What the head answers; models of several labels are not trained here. */
  head?: 'multiclass' | 'multi_label';
  /** How feature maps are pooled. */
  pooling?: 'average' | 'max';
  /** Dropout of the classifier. Default 0.7. */
  classifier_dropout?: number;
  /** Names of the classes, one for each, or none. */
  class_names?: string[];
}

/** A diffusion process. What is left out has the reference's value. */
export interface DiffusionConfig {
  /** Steps of the chain. Default 1000. */
  diffusion_steps?: number;
  noise_schedule?: 'linear' | 'cosine';
  linear_start?: number;
  linear_end?: number;
  rescale_timesteps?: boolean;
  predict_xstart?: boolean;
  prediction?: 'eps' | 'x_start' | 'v';
  rescale_learned_sigmas?: boolean;
}

/** What pictures a model is for; the rest of the command's section `data` is of files, and refused by name. */
export interface PicturesConfig {
  /** Grey level of the ground that pictures lie on. Default 0, black. */
  ground?: number;
  /** How pictures become square. Default "crop". */
  fit?: 'crop' | 'pad' | 'stretch';
  /** By what filter they are resized. Default "lanczos". */
  resize?: 'lanczos' | 'bilinear';
  /** Pixels a side that they are resized to, the ground around them. Default: the model's. */
  resize_to?: number;
}

/** How to train. What is left out has the value that it has in the command's recipes. */
export interface TrainConfig {
  /** Steps in all, those before a reload among them. Default 100,000. */
  steps?: number;
  /** Images of a step. Default 128. */
  batch_size?: number;
  /** Parts of a batch, one after the other, where memory is short. Default 1. */
  micro_batches?: number;
  /** Learning rate of AdamW. Default 1e-4. */
  learning_rate?: number;
  lr_schedule?: 'constant' | 'linear' | 'cosine' | 'exponential';
  /** Of an exponential schedule: what the rate is multiplied by every 1,000 steps. */
  lr_decay?: number;
  /** Steps over which the rate rises from 0. */
  warmup_steps?: number;
  weight_decay?: number;
  /** Rate of the weights' average, which is what the trained model is. Default 0.9999. */
  ema_rate?: number;
  ema_warmup?: boolean;
  /** Weight of the classifier's loss. Default 0.001. */
  classifier_loss_scaling?: number;
  /** What the classifier sees. Guided samples and explanations need "noised" or "both". Default "clean". */
  classifier_input?: 'clean' | 'noised' | 'both' | 'none';
  classifier_only?: boolean;
  /** How activations wait for the backward pass. */
  activations?: 'keep' | 'recompute' | 'f16';
  /** How feature maps are stored; "f16" needs a device with shader-f16. */
  precision?: 'f32' | 'f16';
  clip_grad_norm?: number;
  min_snr_gamma?: number;
  /** How timesteps are drawn: a page knows "uniform" alone. */
  timestep_sampler?: 'uniform';
  /** Seed of everything random. */
  seed?: number;
  /** Mirror half of the images. */
  flip?: boolean;
  /** Steps between figures. Default 50. */
  log_every?: number;
  /** Steps between looks at held-out images; 0: only at the end. Default 1,000. */
  eval_every?: number;
  /** Held-out images for that; 0: all. Default 1,000. */
  eval_images?: number;
  /** Steps between samples; 0: only at the end. Default 5,000. */
  sample_every?: number;
  /** Steps of their chain. Default "50". */
  sample_steps?: string;
  /** Their step size of Algorithm 1. Default 20. */
  sample_alpha?: number;
  /** Steps between checkpoints. Default 500. */
  save_every?: number;
  /** Checkpoints that stay: the newest. */
  keep_last?: 1;
  /** What is trained how fast: a factor of the learning rate, or "frozen". */
  groups?: { encoder?: number | 'frozen'; decoder?: number | 'frozen'; classifier?: number | 'frozen' };
}

/** A kind of augmentation: `true` for the reference's ranges, or values by name. */
export type Augmentation = boolean | Record<string, number | [number, number]>;

/** What happens to images before the classifier sees them. By default nothing does. */
export interface AugmentConfig {
  color_jitter?: Augmentation;
  crop?: Augmentation;
  rotation?: Augmentation;
  horizontal_flip?: Augmentation;
  contrast?: Augmentation;
  sharpness?: Augmentation;
  brightness?: Augmentation;
  mixup?: Augmentation;
  /** What lies outside of an image, from −1 to 1. Default: the colour of the training images' borders. */
  border?: number | number[];
}

/** What to train, and how. A mistake is a {@link BadInputError} whose `field` is its name, as "train.batch_size". */
export interface Recipe {
  data?: PicturesConfig;
  model?: ModelConfig;
  diffusion?: DiffusionConfig;
  train?: TrainConfig;
  augment?: AugmentConfig;
}

/** A setting of the command's recipes that means nothing where images are in memory. */
export interface LeftOutSetting {
  /** Its section and name, as "data.path". */
  field: string;
  /** What the recipe says. */
  value: unknown;
  /** Why that means nothing here, in words. */
  reason: string;
}

/** Answer of {@link readRecipe}. */
export interface ReadRecipe {
  /** What can be trained by here; what the file does not say it does not say either. */
  recipe: Recipe;
  /** What was left out of it. */
  leftOut: LeftOutSetting[];
}

/** Options of {@link Duet.create}. */
export interface CreateOptions extends Pick<LoadOptions, 'device' | 'wasm' | 'signal'> {
  /** Seed of the weights. Default: the recipe's `train.seed`, or 0. */
  seed?: number;
}

/** Options of {@link DuetModel.prepareAll}. */
export interface PrepareAllOptions extends CallOptions {
  /** Leaves images out that cannot be read, and tells them. Default: the first one fails the call. */
  skipUnreadable?: boolean;
  /** Hears how many images are done. */
  onProgress?: (progress: { done: number }) => void;
}

/** Images as a model sees them. */
export interface PreparedImages {
  /** Grey levels of all, one image after the other, each in the order channel, row, column. */
  levels: Uint8Array;
  /** How many. */
  count: number;
  /** Images left out: their places among those given, from 0, and what is wrong with them. */
  unreadable: { index: number; message: string }[];
}

/** Images with a class each. */
export interface LabelledImages {
  /** Images, or the levels of all of them as {@link DuetModel.prepareAll} gives them. */
  images: ImageSource | Uint8Array;
  /** Class of each image, by number or name; `null`: none, only the noise error counts. */
  labels: ArrayLike<number | string | null>;
}

/** Means of the steps since they were last told. */
export interface TrainingFigures {
  /** Steps done, those before a reload among them. */
  done: number;
  /** Steps in all. */
  total: number;
  /** Total loss. */
  loss: number;
  /** Noise error. */
  mse: number;
  /** Classifier's loss of images with a class. */
  classifierLoss: number;
  /** Learning rate of the last step. */
  learningRate: number;
  /** Norm of the last step's gradients, where they are clipped. */
  gradientNorm?: number;
  /** What the loss is multiplied by, where it is. */
  lossScale?: number;
}

/** What the average of the weights makes of held-out images. */
export interface HeldOutFigures {
  /** Steps done. */
  step: number;
  /** How many images were looked at. */
  images: number;
  /** Share whose most probable class is theirs. */
  accuracy: number;
  /** Mean of −ln p of an image's class, in nats. */
  nll: number;
}

/** Where a checkpoint went. */
export interface SavedCheckpoint {
  /** Steps done. */
  step: number;
  /** Length of the file in bytes. */
  bytes: number;
  /** In the origin's private file system, or in this model's memory alone, where {@link DuetModel.export} gets it. */
  kept: 'storage' | 'memory';
  /** Why it is in memory alone, in words, where it was to be in storage. */
  reason?: string;
}

/** Options of {@link DuetModel.trainByRecipe}. */
export interface RecipeTrainOptions extends CallOptions, LabelledImages {
  /**
   * How to train. Left out of a training that goes on: as it began. Its `model`, `diffusion` and `data` may be left out, and say
   * nothing else than the model.
   */
  recipe?: Recipe;
  /** Images that are looked at, and not trained on. */
  heldOut?: LabelledImages;
  /**
   * Name under which the training is kept in the origin's private file system, where {@link trainings} finds it after a reload.
   * Without: in memory.
   */
  keep?: string;
  /** A training goes on otherwise than it began, or on other images: what is refused without it. */
  otherwise?: boolean;
  /** Before each step, which waits for what it promises: a page may wait so while nobody sees it. */
  beforeStep?: (step: number) => Promise<void> | void;
  /** Hears of the losses, every `log_every` steps. */
  onStep?: (figures: TrainingFigures) => void;
  /** Hears of held-out images, every `eval_every` steps and at the end. */
  onEvaluate?: (figures: HeldOutFigures) => void;
  /** Hears of samples of the average, one of each class, every `sample_every` steps and at the end; without it none are made. */
  onSamples?: (samples: { step: number; images: ImageData[] }) => void;
  /** Hears of every checkpoint. */
  onSave?: (saved: SavedCheckpoint) => void;
}

/** Answer of {@link DuetModel.trainByRecipe}. */
export interface RecipeTrainResult {
  /** Steps done in all. */
  step: number;
  /** Its last checkpoint. */
  saved: SavedCheckpoint;
}

/** Where a training by a recipe stands. */
export interface TrainingState {
  /** Steps done. */
  step: number;
  /** Its recipe, whole. */
  recipe: Recipe;
}

/** What happens on the way of a training. */
export type TrainingEvent =
  | { event: 'step'; told: TrainingFigures }
  | { event: 'evaluate'; told: HeldOutFigures }
  | { event: 'samples'; told: { step: number; images: ImageData[] } }
  | { event: 'save'; told: SavedCheckpoint };
