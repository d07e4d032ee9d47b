/** Charts in SVG. */

const SVG = 'http://www.w3.org/2000/svg';

/** What a chart shows. */
export interface ChartContent {
  /** Values from left to right; the first is at `start`. */
  values: ArrayLike<number>;
  /** Number of the first value on the horizontal axis. */
  start: number;
  /** Number of the last place of the horizontal axis, if more values are to come. */
  end?: number;
  /** Where each value lies on the horizontal axis; by default one after the other. */
  at?: ArrayLike<number>;
  /** Whether values at places of their own have no marks: they are too many. */
  unmarked?: boolean;
  /** Top of the vertical axis; by default the largest value. */
  top?: number;
  /** Names of the axes. */
  xLabel: string;
  yLabel: string;
  /** How a value of the vertical axis is written. */
  format: (value: number) => string;
  /** What the chart shows, in words. */
  description: string;
}

/** An element of SVG. */
export function element(tag: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The next round number, as the top of an axis. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 1.5, 2, 3, 4, 6, 8].find((step) => step * power >= value) ?? 10);
}

/** Axes of a drawing: what they are called, what stands at their marks, and where values lie between them. */
export interface Axes {
  /** Ends of the horizontal axis. */
  from: number;
  to: number;
  /** Where it has marks. */
  ticks: number[];
  xFormat: (value: number) => string;
  /** Top of the vertical axis, which begins at 0. */
  top: number;
  yFormat: (value: number) => string;
  xLabel: string;
  yLabel: string;
}

/** A drawing's places of values. */
export interface Scales {
  x: (value: number) => number;
  y: (value: number) => number;
}

/** A drawing in an element; drawn again whenever the element's width changes, so that its text keeps its size. */
export abstract class Drawing<Content extends { description: string }> {
  private content: Content | undefined;

  constructor(private readonly box: HTMLElement) {
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** Shows something. */
  show(content: Content): void {
    this.content = content;
    this.draw();
  }

  /** What stands at the axes. */
  protected abstract axes(content: Content): Axes;
  /** What stands between them. */
  protected abstract marks(content: Content, scales: Scales): SVGElement[];

  private draw(): void {
    const { content, box } = this;
    const width = box.clientWidth;
    const [left, right, upper, lower] = [66, 12, 14, 44];
    // A drawing in a hidden panel, or one that is being laid out, is drawn when it has its room.
    if (!content || width < 2 * (left + right)) return;
    const height = Math.round(Math.min(260, Math.max(180, width * 0.45)));
    const { from, to, ticks, top, ...axes } = this.axes(content);
    const x = (value: number): number => left + ((value - from) / (to - from)) * (width - left - right);
    const y = (value: number): number => height - lower - (value / top) * (height - lower - upper);

    const svg = element('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img' });
    svg.setAttribute('aria-label', content.description);
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const level = y(share * top);
      svg.append(element('line', { class: share ? 'grid' : 'axis', x1: left, x2: width - right, y1: level, y2: level }));
      if ((4 * share) % 2 === 0) {
        svg.append(element('text', { x: left - 8, y: level + 4, 'text-anchor': 'end' }, axes.yFormat(share * top)));
      }
    }
    for (const tick of new Set(ticks)) {
      const text = axes.xFormat(tick);
      // A long word at the right end would be cut by the edge.
      const [anchor, at] = tick === to && text.length > 3 ? ['end', x(tick) + right] : ['middle', x(tick)];
      svg.append(element('text', { x: at, y: height - lower + 18, 'text-anchor': anchor }, text));
    }
    const middle = (height - lower + upper) / 2;
    svg.append(
      element('text', { class: 'axis-name', x: (left + width - right) / 2, y: height - 6, 'text-anchor': 'middle' }, axes.xLabel),
      element(
        'text',
        { class: 'axis-name', x: 12, y: middle, 'text-anchor': 'middle', transform: `rotate(-90 12 ${middle})` },
        axes.yLabel,
      ),
      ...this.marks(content, { x, y }),
    );
    box.replaceChildren(svg);
  }
}

/** A line chart. */
export class Chart extends Drawing<ChartContent> {
  protected override axes({ values, start, end, top, at, format, xLabel, yLabel }: ChartContent): Axes {
    const furthest = at ? Math.max(...Array.from(at)) : start + values.length - 1;
    const to = Math.max(end ?? 0, furthest, start + 1);
    return {
      from: start,
      to,
      ticks: [start, Math.round((start + to) / 2), to],
      xFormat: String,
      top: top ?? roundUp(Math.max(...Array.from(values).filter(Number.isFinite), 1e-6)),
      yFormat: format,
      xLabel,
      yLabel,
    };
  }

  protected override marks(content: ChartContent, { x, y }: Scales): SVGElement[] {
    const { values, start, at, unmarked } = content;
    const { top } = this.axes(content);
    const points = Array.from(values)
      .map((value, i) => [x(at?.[i] ?? start + i), y(Math.max(0, Math.min(top, value)))] as const)
      .filter(([, level]) => Number.isFinite(level));
    if (points.length === 0) return [];
    const path = points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ');
    // Of values at places of their own each has a mark, else the last one, where the line has come to.
    const marked = at && !unmarked ? points : points.slice(-1);
    return [
      element('polyline', { class: 'line', points: path }),
      ...marked.map(([cx, cy]) => element('circle', { class: 'dot', cx, cy, r: 4 })),
    ];
  }
}
