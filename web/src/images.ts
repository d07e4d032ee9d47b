/**
 * Pictures to numbers and back.
 * @module
 */
import { BadInputError } from './errors.js';
import { isPictureFile } from './files.js';
import { fromModule, pictureValues } from './module.js';
import { imageData, pixelsOf, readPicture } from './pixels.js';
import type { ImageInput, ModelInfo, Pixels } from './types.js';

type Size = Pick<ModelInfo, 'imageSize' | 'channels'>;
/** What a model's pictures are: black ground and the middle square where nothing is said. */
type Preparation = Size & Partial<Pick<ModelInfo, 'ground' | 'fit' | 'resize' | 'resizeTo'>>;

/** Beyond what noised images reach: such numbers are no image in −1..1. */
const FAR = 16;

/** A typed array as numbers in −1..1. */
function arrayNumbers(array: Pixels, { imageSize, channels }: Size): Float32Array {
  const wanted = channels * imageSize * imageSize;
  if (array.length !== wanted && !(array instanceof Float32Array) && isPictureFile(array)) {
    throw new BadInputError("the array holds a picture file's bytes: in a browser give new Blob([array]), elsewhere its decoded pixels");
  }
  if (array.length !== wanted) {
    throw new BadInputError(
      `the array has ${array.length} values, the model's images ${channels}·${imageSize}·${imageSize} = ${wanted}`,
    );
  }
  if (!(array instanceof Float32Array)) return Float32Array.from(array, (level) => level / 127.5 - 1);
  if (!array.every(Number.isFinite)) throw new BadInputError('the array holds NaN or infinity');
  const far = array.find((value) => Math.abs(value) > FAR);
  if (far !== undefined) {
    throw new BadInputError(`the array holds ${far}: floats are in −1..1, levels of 0..255 go into a Uint8Array`);
  }
  return array.slice();
}

/** A picture's pixels as numbers in −1..1, in the order channel, row, column. */
function pictureNumbers({ data, width }: ImageData, preparation: Preparation): Float32Array {
  const { imageSize, channels, ground, fit, resize, resizeTo } = preparation;
  if (channels !== 1 && channels !== 3) {
    throw new BadInputError(`pictures have 1 or 3 channels, this model ${channels}: give a typed array`);
  }
  try {
    // The one function that the command uses too, so that both see the same.
    const rgba = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return pictureValues(rgba, width, channels, imageSize, ground, fit, resize, resizeTo);
  } catch (error) {
    // The module gets as much memory as the browser gives it, and has no other end than this one where that is too little.
    if (error instanceof WebAssembly.RuntimeError) {
      throw new BadInputError(`there is not enough memory for a picture of ${data.length / 4} pixels`);
    }
    throw fromModule(error);
  }
}

/** Whether an image is an array of numbers already. */
function isArray(image: ImageInput): image is Pixels {
  return image instanceof Float32Array || image instanceof Uint8Array || image instanceof Uint8ClampedArray;
}

/** Any image but a file as numbers in −1..1, in the order channel, row, column. */
function toNumbers(image: Exclude<ImageInput, Blob>, size: Preparation): Float32Array {
  return isArray(image) ? arrayNumbers(image, size) : pictureNumbers(pixelsOf(image), size);
}

/**
 * Images as numbers in −1..1. What a caller may draw on is read at once; files are decoded one after the other, so that
 * no more than one is unpacked at a time.
 */
export function readImages(images: ImageInput[], size: Preparation): Promise<Float32Array[]> {
  const read = (async () => {
    const begun = images.map((image) => (image instanceof Blob ? image : toNumbers(image, size)));
    const numbers: Float32Array[] = [];
    for (const one of begun) {
      numbers.push(one instanceof Blob ? pictureNumbers(await readPicture(one), size) : one);
    }
    return numbers;
  })();
  // The call that asked may be over before it looks here.
  read.catch(() => undefined);
  return read;
}

/** A mask as numbers in 0..1, one a pixel, fitted as the images are; what is transparent may not change. */
export async function readMask(mask: ImageInput, model: Preparation): Promise<Float32Array> {
  const outside = mask instanceof Float32Array ? mask.find((value) => !(value >= 0 && value <= 1)) : undefined;
  if (outside !== undefined) throw new BadInputError(`a mask has values from 0 to 1, this one holds ${outside}`);
  const [numbers = new Float32Array()] = await readImages([mask], { ...model, channels: 1, ground: 0 });
  return mask instanceof Float32Array ? numbers : numbers.map((value) => (value + 1) / 2);
}

/** Numbers in −1..1 as a picture. */
export function toImage(numbers: Float32Array, { imageSize, channels }: Size): ImageData {
  const pixels = imageSize * imageSize;
  const data = new Uint8ClampedArray(4 * pixels);
  for (let p = 0; p < pixels; p++) {
    for (let c = 0; c < 3; c++) {
      data[4 * p + c] = (numbers[(channels >= 3 ? c : 0) * pixels + p]! + 1) * 127.5;
    }
    data[4 * p + 3] = 255;
  }
  return imageData(data, imageSize, imageSize);
}

/** Colours of pixels that became brighter and darker, the same as the command's pictures have. */
const BRIGHTER = [190, 30, 45] as const;
const DARKER = [33, 76, 180] as const;

/**
 * A difference in −2..2 as a heat map: blue darker, white unchanged, red brighter. Of colours the channel that changes most,
 * brighter or darker as their sum is: channels that change against each other have changed all the same.
 */
export function toHeatMap(difference: Float32Array, { imageSize, channels }: Size): ImageData {
  const pixels = imageSize * imageSize;
  const data = new Uint8ClampedArray(4 * pixels);
  for (let p = 0; p < pixels; p++) {
    let [sum, most] = [0, 0];
    for (let c = 0; c < channels; c++) {
      const change = difference[c * pixels + p]!;
      sum += change;
      most = Math.max(most, Math.abs(change));
    }
    // A change of half the range has the full colour, in every image alike.
    const share = Math.min(1, most);
    const colour = sum < 0 ? DARKER : BRIGHTER;
    for (let c = 0; c < 3; c++) data[4 * p + c] = 255 + (colour[c]! - 255) * share;
    data[4 * p + 3] = 255;
  }
  return imageData(data, imageSize, imageSize);
}
