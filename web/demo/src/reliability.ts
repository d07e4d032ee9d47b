/** A reliability diagram: the share of right answers against how sure the model was, by bin. */

import type { CalibrationBin } from 'duet-diffusion';
import { type Axes, Drawing, type Scales, element } from './chart';

/** What is shown. */
export interface ReliabilityContent {
  bins: CalibrationBin[];
  /** The same in words. */
  description: string;
}

const percent = (share: number): string => `${Math.round(100 * share)}\u00a0%`;

export class Reliability extends Drawing<ReliabilityContent> {
  protected override axes(): Axes {
    return {
      from: 0,
      to: 1,
      ticks: [0, 0.5, 1],
      xFormat: percent,
      top: 1,
      yFormat: percent,
      xLabel: 'Probability of the answer',
      yLabel: 'Right answers',
    };
  }

  protected override marks({ bins }: ReliabilityContent, { x, y }: Scales): SVGElement[] {
    const rectangle = (kind: string, { low, high }: CalibrationBin, from: number, to: number): SVGElement =>
      element('rect', { class: kind, x: x(low) + 1, width: x(high) - x(low) - 2, y: y(Math.max(from, to)), height: Math.abs(y(from) - y(to)) });
    const bars = bins.flatMap((bin) => {
      const { accuracy, confidence } = bin;
      if (accuracy === null || confidence === null) return [];
      return [rectangle('bin', bin, 0, accuracy), rectangle('gap', bin, accuracy, confidence)];
    });
    // On this line probabilities are what they say.
    return [...bars, element('line', { class: 'ideal', x1: x(0), y1: y(0), x2: x(1), y2: y(1) })];
  }
}
