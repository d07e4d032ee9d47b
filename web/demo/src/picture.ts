/** Pictures as canvases. */

import { readPicture } from 'duet-diffusion';
import { make } from './dom';
import { PageError } from './messages';

/** Larger pictures are shown no larger than this: the model's own are far smaller. */
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

/** A picture as the page keeps it: what the library reads, and something to show before a model is there. */
export interface Source {
  /** A file, or pixels: what the library is given. */
  image: Blob | ImageData;
  /** The whole picture, small. */
  preview: HTMLCanvasElement;
}

/** Reads a picture file, by the library's rules of what is one. */
export async function readSource(file: Blob): Promise<Source> {
  return { image: file, preview: await previewOf(await readPicture(file)) };
}

/** What a canvas shows, as a source. */
export function sourceOf(canvas: HTMLCanvasElement): Source {
  return { image: pixelsOf(canvas), preview: copyOf(canvas) };
}

/** A picture scaled down to what the page shows, on black as the sample images are. */
async function previewOf(picture: ImageData): Promise<HTMLCanvasElement> {
  const scale = Math.min(1, LARGEST / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const bitmap = await createImageBitmap(picture, { resizeWidth: width, resizeHeight: height, resizeQuality: 'high' });
  const canvas = blankCanvas(bitmap.width, bitmap.height);
  contextOf(canvas).drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}

/** Draws the centred square of a picture over the whole of a square canvas. */
export function drawSquare(onto: HTMLCanvasElement, picture: HTMLCanvasElement): void {
  const side = Math.min(picture.width, picture.height);
  const context = contextOf(onto);
  context.imageSmoothingQuality = 'high';
  const left = (picture.width - side) / 2;
  const top = (picture.height - side) / 2;
  context.drawImage(picture, left, top, side, side, 0, 0, onto.width, onto.height);
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
