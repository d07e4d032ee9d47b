/** The models that can be chosen: those that models.json lists, and those that the visitor brought. */

/** A model of the list, with addresses from the page's folder on. */
export interface Listed {
  /** Its name in the page's address. */
  id: string;
  /** Its name in the menu. */
  name: string;
  /** A few words on what it knows. */
  about: string;
  /** Its file. */
  file: string;
  /** A small picture. */
  icon?: string;
  /** What is told of it. */
  card?: string;
  /** The folder of its sample pictures, which has a list of them, index.json. */
  samples?: string;
  /** Whose the samples are; a link is written [text](address). */
  credit?: string;
  /** What to do with the image, in place of the page's own words. */
  hint?: string;
  /** Width of the brush that its images want, in pixels of 28×28. */
  brush?: number;
}

/** A model to choose. */
export interface Choice extends Omit<Listed, 'id' | 'file'> {
  /** Its name in the page's address; none of a file that the visitor brought. */
  id?: string;
  /** Where it is. */
  source: string | File;
  /** Its file's name. */
  file: string;
}

/** An absolute address, because a worker's own base is another. */
function absolute(address: string): URL {
  return new URL(address, document.baseURI);
}

/** The last part of an address's path. */
function fileName(address: URL): string {
  return address.pathname.split('/').pop() || address.host;
}

/** Fetches the list. */
export async function fetchModels(): Promise<Choice[]> {
  const answer = await fetch('./models.json');
  if (!answer.ok) throw new Error(`models.json: status ${answer.status}`);
  const listed = (await answer.json()) as Listed[];
  return listed.map((model) => {
    const address = absolute(model.file);
    return { ...model, source: address.href, file: fileName(address) };
  });
}

/** A model by an address that is not in the list. */
export function choiceOfAddress(text: string): Choice {
  const address = absolute(text);
  const file = fileName(address);
  return { id: text, name: file.replace(/\.safetensors$/i, ''), about: 'by its address', source: address.href, file };
}

/** A file that the visitor brought. */
export function choiceOfFile(source: File): Choice {
  return { name: source.name.replace(/\.safetensors$/i, ''), about: 'from this machine', source, file: source.name };
}

let chosen: Choice | undefined;

/** The model that is loaded, or was to be and could not. */
export function chosenModel(): Choice | undefined {
  return chosen;
}

/** Notes which model is loaded. */
export function setChosenModel(choice: Choice): void {
  chosen = choice;
}
