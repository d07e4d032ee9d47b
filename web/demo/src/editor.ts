/**
 * The image being explained: a sample or picture as the model sees it, and what was drawn over it. What the canvas shows is
 * what the model is given, to the pixel.
 */

import { onStroke, paint } from './brush';
import { byId } from './dom';
import { report } from './notice';
import { blankCanvas, contextOf, copyOf, drawSquare, invert, pixelsOf, show, sourceOf } from './picture';
import type { Source } from './picture';
import { prepared } from './session';

const canvas = byId<HTMLCanvasElement>('draw');
const brush = byId<HTMLInputElement>('brush');

let source: Source = sourceOf(blankCanvas(28));
let name = 'empty';
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
  const image = await prepared(source.image);
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
    if (!edited) name = name === 'empty' ? 'drawing' : `${name}, drawn over`;
    edited = true;
    version += 1;
    changed(true);
  });
  byId('clear').addEventListener('click', () => {
    setImage(sourceOf(blankCanvas(canvas.width)), 'empty').catch(report);
  });
  byId('invert').addEventListener('click', () => {
    invert(canvas);
    if (!edited) inverted = !inverted;
    changed();
  });
  redraw().catch(report);
}
