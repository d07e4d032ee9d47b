/** Numbers as people read them. */

/** A probability: "97 %", and never a false 0 or 100. */
export function percent(probability: number): string {
  if (probability > 0 && probability < 0.005) return '<1\u00a0%';
  if (probability < 1 && probability > 0.995) return '>99\u00a0%';
  return `${Math.round(100 * probability)}\u00a0%`;
}

/** A share to a tenth of a per cent: "91.3 %". */
export function tenths(share: number): string {
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

/** A time to go: "about 3 min". */
export function timeLeft(seconds: number): string {
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))}\u00a0s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `about ${minutes}\u00a0min` : `about ${Math.round(minutes / 60)}\u00a0h`;
}

/** A percentile, never rounded up: "99.9 %". */
export function share(percentile: number): string {
  return `${percentile === 100 ? '100' : (Math.floor(10 * percentile) / 10).toFixed(1)}\u00a0%`;
}

/** A count: "1.24 million". */
export function count(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)}\u00a0million`;
  return value.toLocaleString('en');
}

/** Bytes: "12.4 MB". */
export function bytes(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)}\u00a0GB`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}\u00a0MB`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(0)}\u00a0kB`;
  return `${value}\u00a0bytes`;
}

/** "1 image", "3 images". */
export function plural(value: number, noun: string): string {
  return `${value}\u00a0${noun}${value === 1 ? '' : 's'}`;
}

/** A loss, to four digits. */
export function figure(value: number): string {
  return Number.isFinite(value) ? value.toPrecision(3) : 'not a number';
}
