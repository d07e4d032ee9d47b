/** A line chart in SVG. */

const SVG = 'http://www.w3.org/2000/svg';

/** What a chart shows. */
export interface ChartContent {
  /** Values from left to right; the first is at `start`. */
  values: ArrayLike<number>;
  /** Number of the first value on the horizontal axis. */
  start: number;
  /** Number of the last place of the horizontal axis, if more values are to come. */
  end?: number;
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

function element(tag: string, attributes: Record<string, string | number>, text?: string): SVGElement {
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

/** A chart in an element; drawn again whenever the element's width changes, so that its text keeps its size. */
export class Chart {
  private content: ChartContent | undefined;

  constructor(private readonly box: HTMLElement) {
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** Shows values. */
  show(content: ChartContent): void {
    this.content = content;
    this.draw();
  }

  private draw(): void {
    const { content, box } = this;
    const width = box.clientWidth;
    // A chart in a hidden panel is drawn when the panel is shown.
    if (!content || width === 0) return;
    const height = Math.round(Math.min(260, Math.max(180, width * 0.45)));
    const [left, right, upper, lower] = [66, 12, 14, 44];
    const values = Array.from(content.values);
    const top = content.top ?? roundUp(Math.max(...values.filter(Number.isFinite), 1e-6));
    const last = Math.max(content.end ?? 0, content.start + values.length - 1, content.start + 1);
    const x = (step: number): number => left + ((step - content.start) / (last - content.start)) * (width - left - right);
    const y = (value: number): number => height - lower - (value / top) * (height - lower - upper);

    const svg = element('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img' });
    svg.setAttribute('aria-label', content.description);
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const level = y(share * top);
      svg.append(element('line', { class: share ? 'grid' : 'axis', x1: left, x2: width - right, y1: level, y2: level }));
      if ((4 * share) % 2 === 0) {
        svg.append(
          element('text', { x: left - 8, y: level + 4, 'text-anchor': 'end' }, content.format(share * top)),
        );
      }
    }
    const ticks = [...new Set([content.start, Math.round((content.start + last) / 2), last])];
    for (const tick of ticks) {
      svg.append(element('text', { x: x(tick), y: height - lower + 18, 'text-anchor': 'middle' }, String(tick)));
    }
    const middle = (height - lower + upper) / 2;
    svg.append(
      element('text', { class: 'axis-name', x: (left + width - right) / 2, y: height - 6, 'text-anchor': 'middle' }, content.xLabel),
      element(
        'text',
        { class: 'axis-name', x: 12, y: middle, 'text-anchor': 'middle', transform: `rotate(-90 12 ${middle})` },
        content.yLabel,
      ),
    );
    const points = values
      .map((value, i) => [x(content.start + i), y(Math.max(0, Math.min(top, value)))] as const)
      .filter(([, level]) => Number.isFinite(level));
    if (points.length > 0) {
      const path = points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ');
      svg.append(element('polyline', { class: 'line', points: path }));
      const [endX, endY] = points[points.length - 1] ?? [0, 0];
      svg.append(element('circle', { class: 'dot', cx: endX, cy: endY, r: 4 }));
    }
    box.replaceChildren(svg);
  }
}
