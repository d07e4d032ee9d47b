/** What a check of the device found: verdict, device, and a table of all errors. */

import type { CheckedOperation, CheckProgress, DeviceReport } from 'duet-diffusion';
import { heading } from './data-table';
import { byId, download, make } from './dom';
import { bytes, plural } from './format';
import { alertWith, say } from './notice';

/** The report as it is copied and saved. */
let text = '';

/** An error as a share of a length: "2e-7". */
function share(off: number | null): string {
  if (off === null) return 'no number';
  return off === 0 ? '0' : off.toExponential(0);
}

/** What is wrong so far, in words; nothing where all is right. */
function faults({ report, done, total }: CheckProgress): string {
  const wrong: string[] = [];
  const lostFirst = report.lost !== null && report.operations.length === 0;
  if (done > 0 && report.training_step !== null && !lostFirst) wrong.push('the training step');
  const names = new Set(report.operations.filter((one) => one.wrong !== null).map(({ name }) => name));
  if (names.size > 0) wrong.push(`${names.size} of ${plural(total - 1, 'operation')}`);
  const words = wrong.length > 0 ? [`This device computes wrongly: ${wrong.join(' and ')}.`] : [];
  if (report.lost !== null) words.push(`The device was lost at ${report.lost.replace(/[.\s]*$/, '')}.`);
  return words.join(' ');
}

function facts({ adapter, backend, software, driver, platform, limits, families, beyond_direct: beyond, version }: DeviceReport): [string, string][] {
  const { workgroup_invocations: invocations, workgroup_bytes: memory, binding_bytes: binding } = limits;
  const chosen = beyond ? 'chosen by shape' : 'the direct one alone is chosen';
  return [
    ['Adapter', `${adapter}${software ? ' (software)' : ''}`],
    ...(driver ? [['Driver', driver] as [string, string]] : []),
    ['Through', backend],
    ['Browser', platform],
    ['Workgroups', `${invocations} invocations, ${memory.toLocaleString('en')} bytes of memory`],
    ['Bindings', `${bytes(binding)} at most`],
    ['Kernels', families.length > 1 ? `${families.join(', ')}; ${chosen}` : families.join()],
    ['Duet', version],
  ];
}

function cell(one: CheckedOperation | undefined, lost: boolean): HTMLTableCellElement {
  if (!one) return make('td', lost ? { className: 'wrong', textContent: 'lost' } : { textContent: '–' });
  if (one.wrong === null) return make('td', { textContent: share(one.off) });
  return make('td', { className: 'wrong', textContent: `wrong: ${share(one.off)}` });
}

/** What is wrong with something, under its row. */
function words(columns: number, what: string): HTMLTableRowElement {
  return make('tr', {}, make('td', { className: 'wrong words', colSpan: columns, textContent: what }));
}

function fill({ report, done }: CheckProgress): void {
  const { families, operations, training_step: step } = report;
  const columns = families.length + 1;
  const rows: HTMLTableRowElement[] = [];
  if (done > 0) {
    const came = make('td', { colSpan: families.length, textContent: step === null ? 'right' : 'wrong', className: step === null ? '' : 'wrong' });
    rows.push(make('tr', {}, heading('a training step', 'row'), came));
    if (step !== null) rows.push(words(columns, step));
  }
  // The operation at which the device was lost has a row, too, though it may have come to nothing.
  const lost = step === null ? report.lost?.split(': ')[0] : undefined;
  for (const name of new Set([...operations.map((one) => one.name), ...(lost ? [lost] : [])])) {
    const own = operations.filter((one) => one.name === name);
    const cells = families.map((family) => cell(own.find((one) => one.family === family), name === lost));
    rows.push(make('tr', {}, heading(name, 'row'), ...cells));
    for (const { family, wrong } of own) if (wrong !== null) rows.push(words(columns, `${family}: ${wrong}`));
  }
  byId('report-table').replaceChildren(
    make('caption', { id: 'report-caption', textContent: 'Largest error by family of kernels' }),
    make('thead', {}, make('tr', {}, ...['Operation', ...families].map((name) => heading(name, 'col')))),
    make('tbody', {}, ...rows),
  );
}

/** Shows what was found so far, or in the end; gives the verdict in words. */
export function showReport(state: CheckProgress, stopped = false): string {
  const { report, next } = state;
  const wrong = faults(state);
  let verdict = wrong || 'This device computes correctly.';
  if (next !== undefined) {
    verdict = wrong || 'Nothing is wrong so far.';
    if (stopped) verdict += ` Stopped at “${next}”.`;
  }
  const line = byId('verdict');
  line.textContent = verdict;
  line.classList.toggle('wrong', wrong !== '');
  byId('report-facts').replaceChildren(
    ...facts(report).map(([name, value]) => make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value }))),
  );
  fill(state);
  byId('report-key').textContent =
    `Of the result and its gradients, as a share of their length; right is at most ${share(report.tolerance)}. –: the family has no kernel of its own for it.`;
  byId('report').hidden = false;
  // A report that is not whole says where it ends.
  text = JSON.stringify(next === undefined ? report : { ...report, stopped_at: next }, null, 2);
  return verdict;
}

/** Wires the report's buttons. */
export function startReport(): void {
  byId('report-copy').addEventListener('click', () => {
    navigator.clipboard.writeText(text).then(
      () => say('The report is copied.'),
      // Browsers may forbid it.
      () => alertWith('The report could not be copied: save it instead.'),
    );
  });
  byId('report-save').addEventListener('click', () => {
    download(new Blob([`${text}\n`], { type: 'application/json' }), 'duet-check.json');
    say('The report is saved as duet-check.json.');
  });
}
