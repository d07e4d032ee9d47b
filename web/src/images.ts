/**
 * Pictures to numbers and back.
 * @module
 */
import { BadInputError } from './errors.js';
import { fromModule, pictureValues } from './module.js';
import type { ImageInput, ModelInfo } from './types.js';

type Size = Pick<ModelInfo, 'imageSize' | 'channels'>;
type Preparation = Size & Partial<Pick<ModelInfo, 'ground' | 'fit'>>;

/** A canvas of the given size: off-screen where there is such a thing, as in workers. */
function canvas(width: number, height: number): OffscreenCanvas | HTMLCanvasElement {
  if (typeof OffscreenCanvas !== 'undefined') return new OffscreenCanvas(width, height);
  const element = document.createElement('canvas');
  element.width = width;
  element.height = height;
  return element;
}

function context(target: OffscreenCanvas | HTMLCanvasElement) {
  const found = target.getContext('2d', { willReadFrequently: true }) as
    | OffscreenCanvasRenderingContext2D
    | CanvasRenderingContext2D
    | null;
  if (!found) throw new BadInputError('this browser gives no 2d canvas to read pictures with');
  return found;
}

/** Whether something is a picture: the types alone do not keep callers without TypeScript from mistakes. */
function isPicture(image: unknown): boolean {
  const kinds = ['ImageData', 'ImageBitmap', 'OffscreenCanvas', 'HTMLCanvasElement', 'HTMLImageElement'];
  return kinds.some((kind) => {
    const type = (globalThis as Record<string, unknown>)[kind];
    return typeof type === 'function' && image instanceof type;
  });
}

function dimensions(image: CanvasImageSource): [number, number] {
  if (typeof HTMLImageElement !== 'undefined' && image instanceof HTMLImageElement) {
    return [image.naturalWidth, image.naturalHeight];
  }
  const { width, height } = image as ImageBitmap;
  return [width, height];
}

/** The pixels of a picture of any size. */
function pixelsOf(image: Exclude<ImageInput, Float32Array | Uint8Array | Uint8ClampedArray>): ImageData {
  if (!isPicture(image)) {
    throw new BadInputError('an image must be ImageData, ImageBitmap, a canvas, an <img> or a typed array');
  }
  if (image instanceof ImageData) return image;
  const [width, height] = dimensions(image);
  if (!(width > 0 && height > 0)) throw new BadInputError('the picture is empty, or not loaded yet');
  const on = context(canvas(width, height));
  on.drawImage(image, 0, 0);
  return on.getImageData(0, 0, width, height);
}

/** Any image as numbers in −1..1, in the order channel, row, column. */
export function toNumbers(image: ImageInput, { imageSize, channels, ground, fit }: Preparation): Float32Array {
  if (image instanceof Float32Array || image instanceof Uint8Array || image instanceof Uint8ClampedArray) {
    const wanted = channels * imageSize * imageSize;
    if (image.length !== wanted) {
      throw new BadInputError(
        `the array has ${image.length} values, the model's images ${channels}·${imageSize}·${imageSize} = ${wanted}`,
      );
    }
    if (image instanceof Float32Array) {
      if (!image.every(Number.isFinite)) throw new BadInputError('the array holds NaN or infinity');
      return image.slice();
    }
    return Float32Array.from(image, (level) => level / 127.5 - 1);
  }
  if (channels !== 1 && channels !== 3) {
    throw new BadInputError(`pictures have 1 or 3 channels, this model ${channels}: give a typed array`);
  }
  const { data, width } = pixelsOf(image);
  try {
    // The one function that the command uses too, so that both see the same.
    const rgba = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return pictureValues(rgba, width, channels, imageSize, ground, fit);
  } catch (error) {
    throw fromModule(error);
  }
}

/** A mask as numbers in 0..1, one a pixel, fitted as the images are; what is transparent may not change. */
export function toMask(mask: ImageInput, { imageSize, fit }: Size & Partial<Pick<ModelInfo, 'fit'>>): Float32Array {
  const numbers =
    mask instanceof Float32Array
      ? toNumbers(mask, { imageSize, channels: 1 })
      : toNumbers(mask, { imageSize, channels: 1, fit }).map((v) => (v + 1) / 2);
  return numbers.map((v) => Math.min(1, Math.max(0, v)));
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
  return new ImageData(data, imageSize, imageSize);
}

/** A difference in −2..2 as a heat map, the mean over the channels: blue darker, white unchanged, red brighter. */
export function toHeatMap(difference: Float32Array, { imageSize, channels }: Size): ImageData {
  const pixels = imageSize * imageSize;
  const data = new Uint8ClampedArray(4 * pixels);
  for (let p = 0; p < pixels; p++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += difference[c * pixels + p]!;
    // A change of half the range has the full colour.
    const share = Math.max(-1, Math.min(1, sum / channels));
    const fade = 255 * (1 - Math.abs(share));
    data[4 * p] = share > 0 ? 255 : fade;
    data[4 * p + 1] = fade;
    data[4 * p + 2] = share > 0 ? fade : 255;
    data[4 * p + 3] = 255;
  }
  return new ImageData(data, imageSize, imageSize);
}
