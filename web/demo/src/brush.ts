/** Painting on a canvas with mouse, pen or finger. */

/** Calls back with each piece of a stroke, in pixels of the canvas. */
export function onStroke(
  canvas: HTMLCanvasElement,
  piece: (fromX: number, fromY: number, toX: number, toY: number) => void,
): void {
  let last: [number, number] | undefined;

  const place = (event: PointerEvent): [number, number] => {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * canvas.width,
      ((event.clientY - box.top) / box.height) * canvas.height,
    ];
  };

  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    // The stroke goes on outside of the canvas and comes back.
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    piece(...last, ...last);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!last || !event.isPrimary) return;
    // A browser hands over several positions at once; a fast stroke is angular without them. Safari had none for long.
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length > 0 ? events : [event]) {
      const next = place(each);
      piece(...last, ...next);
      last = next;
    }
  });
  const end = (): void => {
    last = undefined;
  };
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', end);
}

/** Draws one piece of a stroke with a round brush. */
export function paint(
  context: CanvasRenderingContext2D,
  [fromX, fromY, toX, toY]: [number, number, number, number],
  width: number,
  colour: string,
): void {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineCap = 'round';
  context.beginPath();
  context.moveTo(fromX, fromY);
  // A line of no length draws nothing in some browsers; a dot must be seen.
  context.lineTo(toX, toY + (fromX === toX && fromY === toY ? 0.01 : 0));
  context.stroke();
}
