/** Where a counterfactual differs from its original, and outlines of it. */

import type { Explanation } from 'duet-diffusion';

/** A change of fewer grey levels than this, of 255, is not seen. */
const SEEN = 8;
/** Changed by at least this share of the answers, a pixel's change is a stable one. */
const STABLE = 0.5;

/** Pixels of a square picture by row and column: 1 where something holds. */
export interface Region {
  size: number;
  pixels: Uint8Array;
}

/** What an answer changes: as most of several answers do, or as fewer do. */
export interface Changes {
  stable: Region;
  unstable: Region;
}

/** Where any channel changes by more than can be seen. */
export function touched({ differenceValues, original }: Explanation): Region {
  const size = original.width;
  const plane = size * size;
  const pixels = new Uint8Array(plane);
  differenceValues.forEach((change, i) => {
    if (Math.abs(change) > (2 * SEEN) / 255) pixels[i % plane] = 1;
  });
  return { size, pixels };
}

/** What an explanation changes; `stability` is the share of all answers that change each pixel. */
export function changesOf(explanation: Explanation, stability?: Float32Array): Changes {
  const { size, pixels } = touched(explanation);
  const where = (stable: boolean): Region => ({
    size,
    pixels: pixels.map((one, i) => Number(one === 1 && (stability?.[i] ?? 1) >= STABLE === stable)),
  });
  return { stable: where(true), unstable: where(false) };
}

/** Share of a region's pixels. */
export function shareOf({ pixels }: Region): number {
  return pixels.reduce((sum, one) => sum + one, 0) / pixels.length;
}

/** Whether a pixel is inside; none beyond the edge is. */
function inside({ size, pixels }: Region, x: number, y: number): boolean {
  return x >= 0 && y >= 0 && x < size && y < size && pixels[y * size + x] === 1;
}

/** Edges between the pixels of a region and others, as lines of a path; not those that `except` has too. */
function contour(region: Region, scale: number, except?: Region): Path2D {
  const path = new Path2D();
  for (let y = 0; y <= region.size; y++) {
    for (let x = 0; x <= region.size; x++) {
      const here = inside(region, x, y);
      const known = except && inside(except, x, y);
      if (here !== inside(region, x - 1, y) && !(except && known !== inside(except, x - 1, y))) {
        path.moveTo(x * scale, y * scale);
        path.lineTo(x * scale, (y + 1) * scale);
      }
      if (here !== inside(region, x, y - 1) && !(except && known !== inside(except, x, y - 1))) {
        path.moveTo(x * scale, y * scale);
        path.lineTo((x + 1) * scale, y * scale);
      }
    }
  }
  return path;
}

/** Draws the outlines of changes over a picture of `side` pixels: stable ones solid, the others faint. */
export function drawOutlines(context: CanvasRenderingContext2D, { stable, unstable }: Changes, side: number): void {
  const scale = side / stable.size;
  const unit = side / 168;
  context.save();
  context.lineCap = 'square';
  const stroke = (path: Path2D, colour: string, width: number): void => {
    context.strokeStyle = colour;
    context.lineWidth = width * unit;
    context.stroke(path);
  };
  // On light and on dark pixels alike: orange with a dark rim.
  const faint = contour(unstable, scale, stable);
  context.setLineDash([unit, 2.5 * unit]);
  stroke(faint, 'rgb(20 12 4 / 55%)', 1.8);
  stroke(faint, 'rgb(255 138 61 / 80%)', 0.9);
  context.setLineDash([]);
  const solid = contour(stable, scale);
  stroke(solid, 'rgb(20 12 4 / 75%)', 3);
  stroke(solid, '#ff8a3d', 1.5);
  context.restore();
}
