/**
 * The image being explained: a sample or picture as the model sees it, and what was drawn over it. What the canvas shows is
 * what the model is given, to the pixel.
 */

import { onStroke, paint } from './brush';
import { byId } from './dom';
import { isGone } from './messages';
import { report } from './notice';
import { blankCanvas, contextOf, copyOf, drawSquare, invert, pixelsOf, show, sourceOf } from './picture';
import type { Source } from './picture';
import { isSample } from './samples';
import type { Sample } from './samples';
import { prepared } from './session';

const canvas = byId<HTMLCanvasElement>('draw');
const brush = byId<HTMLInputElement>('brush');

/** What an image without anything is called. */
const EMPTY = 'empty';

let source: Source = sourceOf(blankCanvas(28));
let name = EMPTY;
/** Whether the canvas holds more than the source, and whether it shows its negative. */
let edited = false;
let inverted = false;
/** Counts what was put on the canvas: a picture that is prepared meanwhile may come too late. */
let version = 0;
const listeners: ((drawing: boolean) => void)[] = [];

/** Hears of every change, and whether it is part of a stroke, so that more of them follow at once. */
export function onImage(listener: (drawing: boolean) => void): void {
  listeners.push(listener);
}

function changed(drawing = false): void {
  canvas.setAttribute('aria-label', `The image: ${name}`);
  for (const listener of listeners) listener(drawing);
}

/**
 * Shows the source as the model sees it, or, before there is one, as the browser makes it as small. Says whether it is
 * shown: another image may have come meanwhile.
 */
async function redraw(): Promise<boolean> {
  edited = false;
  version += 1;
  const asked = version;
  const image = await prepared(source.image).catch((error: unknown) => {
    // Another model takes the place of the one that was asked, and has the image prepared anew.
    if (!isGone(error)) throw error;
    version += 1;
    return undefined;
  });
  if (version !== asked) return false;
  if (image) show(canvas, image);
  else drawSquare(canvas, source.preview);
  if (inverted) invert(canvas);
  return true;
}

/** Shows a picture. */
export async function setImage(picture: Source, label: string): Promise<void> {
  source = picture;
  name = label;
  inverted = false;
  if (await redraw()) changed();
}

/** Whether the image is the visitor's own: drawn, or a picture that is no sample. */
export function holdsOwnImage(): boolean {
  return edited || !(name === EMPTY || isSample(source));
}

/** Puts a sample, or nothing, in the place of the image, for the next model to prepare. */
export function replaceImage(sample: Sample | undefined): void {
  source = sample?.picture ?? sourceOf(blankCanvas(canvas.width));
  name = sample?.label ?? EMPTY;
  edited = inverted = false;
  version += 1;
  canvas.setAttribute('aria-label', `The image: ${name}`);
}

/** Prepares the image for another model. What was drawn is kept, scaled. */
export async function fitEditor(size: number): Promise<void> {
  if (edited) {
    if (canvas.width === size) return;
    source = sourceOf(canvas);
    inverted = false;
  }
  if (canvas.width !== size) canvas.width = canvas.height = size;
  await redraw();
}

/** The image for the model. */
export function editorImage(): ImageData {
  return pixelsOf(canvas);
}

/** The source, where the image is just that. */
export function editorSource(): Source | undefined {
  return edited || inverted ? undefined : source;
}

/** A copy of the image as it is shown. */
export function editorCopy(): HTMLCanvasElement {
  return copyOf(canvas);
}

/** Its name: a label, a file's name, or "drawing". */
export function editorName(): string {
  return name;
}

/** Wires the canvas and its tools. */
export function startEditor(): void {
  onStroke(canvas, (...piece) => {
    const tone = document.querySelector<HTMLInputElement>('input[name=tone]:checked')?.value ?? '255';
    // The brush is measured in pixels of a 28×28 image, whatever the model's size.
    const width = (brush.valueAsNumber * canvas.width) / 28;
    paint(contextOf(canvas), piece, width, `rgb(${tone} ${tone} ${tone})`);
    if (!edited) name = name === EMPTY ? 'drawing' : `${name}, drawn over`;
    edited = true;
    version += 1;
    changed(true);
  });
  byId('clear').addEventListener('click', () => {
    setImage(sourceOf(blankCanvas(canvas.width)), EMPTY).catch(report);
  });
  byId('invert').addEventListener('click', () => {
    invert(canvas);
    if (!edited) inverted = !inverted;
    changed();
  });
  redraw().catch(report);
}
