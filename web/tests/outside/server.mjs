/** What a server does that makes pages: it imports the package, and asks nothing of it. */
const before = Object.keys(globalThis).join();
const duet = await import('duet-diffusion');
const untouched = Object.keys(globalThis).join() === before;
const failures = [];
for (const load of [
  () => duet.Duet.load('model.safetensors'),
  () => duet.DuetWorker.load('model.safetensors'),
  () => duet.Duet.checkDevice(),
  () => duet.DuetWorker.checkDevice(),
]) {
  const error = await load().catch((error) => error);
  failures.push({ code: error.code, name: error.name, typed: error instanceof duet.NoWebGpuError, message: error.message });
}
console.log(JSON.stringify({ untouched, exported: Object.keys(duet).sort(), failures }));
