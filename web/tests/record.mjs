/**
 * A record of comparisons with stored numbers: how many, how near the worst came, and what failed.
 */

export class Record {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
    this.compared = 0;
    this.worst = { ratio: 0, name: '' };
    /** @type {string[]} */
    this.failures = [];
  }

  /** Notes one comparison by its ratio to the tolerance. @param {string} name @param {number} ratio @param {string} detail */
  ratio(name, ratio, detail) {
    this.compared += 1;
    const known = Number.isNaN(ratio) ? Infinity : ratio;
    if (known > this.worst.ratio) this.worst = { ratio: known, name };
    if (known > 1) this.failures.push(`${name}: ${detail} (ratio to the tolerance ${known.toFixed(2)})`);
  }

  /**
   * Compares lists within an absolute bound.
   * @param {string} name
   * @param {ArrayLike<number>} got
   * @param {ArrayLike<number>} want
   * @param {number} bound
   */
  compare(name, got, want, bound) {
    if (got.length !== want.length) {
      this.compared += 1;
      this.failures.push(`${name}: ${got.length} values instead of ${want.length}`);
      return;
    }
    let [worst, at] = [0, 0];
    for (let i = 0; i < want.length; i += 1) {
      const difference = Math.abs(got[i] - want[i]);
      // A number that is none must not slip through the comparison.
      if (!(difference <= worst)) [worst, at] = [Number.isNaN(difference) ? Infinity : difference, i];
    }
    this.ratio(name, worst / bound, `value ${at} is ${got[at]} instead of ${want[at]}`);
  }

  /** Prints the record; fails unless every comparison was within its tolerance. */
  finish() {
    const { ratio, name } = this.worst;
    console.log(`${this.name}: ${this.compared} comparisons, worst ratio to the tolerance ${ratio.toFixed(3)} (${name})`);
    if (this.failures.length > 0) {
      const shown = this.failures.slice(0, 30).join('\n  ');
      throw new Error(`${this.name}: ${this.failures.length} failures\n  ${shown}`);
    }
  }
}
