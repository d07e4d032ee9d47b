/** Pictures as canvases. */

import { make } from './dom';
import { PageError } from './messages';

/** Larger pictures are scaled down to this: the model's own are far smaller. */
const LARGEST = 512;

/** A canvas's context; reading pixels often is what this page does. */
export function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new PageError('The browser could not open a canvas.');
  return context;
}

/** A new black canvas. */
export function blankCanvas(width: number, height = width): HTMLCanvasElement {
  const canvas = make('canvas', { width, height });
  const context = contextOf(canvas);
  context.fillStyle = '#000';
  context.fillRect(0, 0, width, height);
  return canvas;
}

/** A canvas's pixels, fresh every time: a worker may take the bytes away. */
export function pixelsOf(canvas: HTMLCanvasElement): ImageData {
  return contextOf(canvas).getImageData(0, 0, canvas.width, canvas.height);
}

/** Shows an image in a canvas at its own size; the style sheet enlarges it. */
export function show(canvas: HTMLCanvasElement, image: ImageData): HTMLCanvasElement {
  canvas.width = image.width;
  canvas.height = image.height;
  contextOf(canvas).putImageData(image, 0, 0);
  return canvas;
}

/** Reads a picture file. */
export async function readPicture(file: Blob): Promise<HTMLCanvasElement> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    const name = file instanceof File ? file.name : 'The file';
    throw new PageError(`${name} is no picture that this browser can read. PNG, JPEG and WebP always work.`);
  }
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  // On black, so that transparent parts become the background the sample images have.
  const canvas = blankCanvas(
    Math.max(1, Math.round(bitmap.width * scale)),
    Math.max(1, Math.round(bitmap.height * scale)),
  );
  const context = contextOf(canvas);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

/** Draws the centred square of a picture over the whole of a square canvas, grey if asked. */
export function drawSquare(onto: HTMLCanvasElement, picture: HTMLCanvasElement, grey: boolean): void {
  const side = Math.min(picture.width, picture.height);
  const context = contextOf(onto);
  context.imageSmoothingQuality = 'high';
  const left = (picture.width - side) / 2;
  const top = (picture.height - side) / 2;
  context.drawImage(picture, left, top, side, side, 0, 0, onto.width, onto.height);
  if (!grey) return;
  const image = pixelsOf(onto);
  const data = image.data;
  for (let i = 0; i < data.length; i += 4) {
    const level = 0.299 * (data[i] ?? 0) + 0.587 * (data[i + 1] ?? 0) + 0.114 * (data[i + 2] ?? 0);
    data[i] = data[i + 1] = data[i + 2] = level;
  }
  context.putImageData(image, 0, 0);
}

/** Turns light into dark: a photograph on white paper looks to the model like nothing it knows. */
export function invert(canvas: HTMLCanvasElement): void {
  const image = pixelsOf(canvas);
  image.data.forEach((value, i) => {
    if (i % 4 !== 3) image.data[i] = 255 - value;
  });
  contextOf(canvas).putImageData(image, 0, 0);
}

/** A copy of a canvas. */
export function copyOf(canvas: HTMLCanvasElement): HTMLCanvasElement {
  const copy = blankCanvas(canvas.width, canvas.height);
  contextOf(copy).drawImage(canvas, 0, 0);
  return copy;
}
