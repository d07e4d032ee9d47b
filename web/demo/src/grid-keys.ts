/** Keys in a grid of buttons: one stop for the Tab key, arrows, Home and End move inside. */

/** Wires buttons that stand in one grid; Tab comes to the one at `first`. */
export function arrowKeys(buttons: HTMLElement[], first = 0): void {
  buttons.forEach((button, index) => {
    button.tabIndex = index === first ? 0 : -1;
    button.addEventListener('focus', () => {
      for (const other of buttons) other.tabIndex = other === button ? 0 : -1;
    });
    button.addEventListener('keydown', (event) => {
      const next = neighbour(buttons, button, event.key);
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
  });
}

/** Where a key leads from a button of the grid, as it is laid out now. */
function neighbour(buttons: HTMLElement[], from: HTMLElement, key: string): HTMLElement | undefined {
  const column = buttons.filter((other) => other.offsetLeft === from.offsetLeft);
  const step = (line: HTMLElement[], by: number): HTMLElement | undefined => line[line.indexOf(from) + by];
  switch (key) {
    case 'ArrowRight':
      return step(buttons, 1);
    case 'ArrowLeft':
      return step(buttons, -1);
    case 'ArrowDown':
      return step(column, 1);
    case 'ArrowUp':
      return step(column, -1);
    case 'Home':
      return buttons[0];
    case 'End':
      return buttons.at(-1);
    default:
      return undefined;
  }
}
