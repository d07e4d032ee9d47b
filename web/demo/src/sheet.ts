/** Sheets of images with captions, to save as PNG. */

import { download } from './dom';
import { PageError } from './messages';
import { blankCanvas, contextOf, show } from './picture';

/** An image of a sheet. */
export interface Tile {
  image: ImageData;
  caption?: string;
  /** Draws over it, on a picture of `side` pixels whose corner is the origin. */
  over?: (context: CanvasRenderingContext2D, side: number) => void;
}

/** Side of a tile in pixels of the sheet, about: tiles are enlarged by a whole number so that pixels stay square. */
const SIDE = 168;
const GAP = 16;
const LINE = 20;
const FONT = '14px system-ui, sans-serif';

/** Saves rows of tiles, with a name before each row and lines at the foot where given. */
export async function saveSheet(
  file: string,
  rows: { name?: string; tiles: Tile[] }[],
  foot: string[] = [],
  side = SIDE,
): Promise<void> {
  const first = rows[0]?.tiles[0];
  if (!first) return;
  const scale = Math.max(1, Math.round(side / first.image.width));
  const tile = scale * first.image.width;
  const named = rows.some((row) => row.name) ? 110 : 0;
  const captioned = rows.some((row) => row.tiles.some((each) => each.caption)) ? 26 : 0;
  const columns = Math.max(...rows.map((row) => row.tiles.length));
  const width = named + columns * (tile + GAP) + GAP;
  const height = rows.length * (tile + captioned + GAP) + GAP + foot.length * LINE + (foot.length > 0 ? 8 : 0);

  const sheet = blankCanvas(width, height);
  const context = contextOf(sheet);
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  context.font = FONT;
  context.fillStyle = '#1a1f27';
  context.textBaseline = 'middle';
  context.imageSmoothingEnabled = false;
  rows.forEach((row, r) => {
    const y = GAP + r * (tile + captioned + GAP);
    if (row.name) context.fillText(row.name, GAP, y + tile / 2, named - GAP);
    row.tiles.forEach(({ image, caption, over }, c) => {
      const x = named + GAP + c * (tile + GAP);
      context.drawImage(show(document.createElement('canvas'), image), x, y, tile, tile);
      if (over) {
        context.save();
        context.translate(x, y);
        over(context, tile);
        context.restore();
      }
      // A white image would have no edge on the white sheet.
      context.strokeStyle = '#d8dce4';
      context.strokeRect(x - 0.5, y - 0.5, tile + 1, tile + 1);
      if (caption) context.fillText(caption, x, y + tile + 15, tile);
    });
  });
  foot.forEach((line, i) => context.fillText(line, GAP, height - 14 - (foot.length - 1 - i) * LINE, width - 2 * GAP));

  const blob = await new Promise<Blob | null>((resolve) => sheet.toBlob(resolve, 'image/png'));
  if (!blob) throw new PageError('The browser could not write the PNG.');
  download(blob, file);
}
