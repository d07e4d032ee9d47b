/** Picture files coming in by choosing, dropping and pasting. */

/** Takes pictures by a file input, dropped on an element, and pasted while that element is shown. */
export function takePictures(input: HTMLInputElement, zone: HTMLElement, take: (files: File[]) => void): void {
  const takeImages = (list: FileList | undefined | null): boolean => {
    const files = [...(list ?? [])];
    if (files.length > 0) take(files);
    return files.length > 0;
  };

  input.addEventListener('change', () => {
    takeImages(input.files);
    // Choosing the same file again must be a change again.
    input.value = '';
  });

  let depth = 0;
  const mark = (change: number): void => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle('dropping', depth > 0);
  };
  const holdsFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;
  zone.addEventListener('dragenter', (event) => {
    if (holdsFiles(event)) mark(1);
  });
  zone.addEventListener('dragleave', (event) => {
    if (holdsFiles(event)) mark(-1);
  });
  zone.addEventListener('dragover', (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  zone.addEventListener('drop', (event) => {
    mark(-depth);
    if (takeImages(event.dataTransfer?.files)) event.preventDefault();
  });

  document.addEventListener('paste', (event) => {
    // A hidden panel's elements have no box.
    if (zone.offsetParent === null) return;
    if (takeImages(event.clipboardData?.files)) event.preventDefault();
  });
}

/** Keeps the browser from leaving the page for a file dropped beside the zones. */
export function ignoreStrayDrops(): void {
  for (const kind of ['dragover', 'drop'] as const) {
    window.addEventListener(kind, (event) => {
      if (event.dataTransfer?.types.includes('Files')) event.preventDefault();
    });
  }
}
