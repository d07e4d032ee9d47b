/**
 * One device for all models of a page's thread. A software device takes a second for many a pipeline, more than all that tests do
 * with it, and each device compiles its own anew.
 */

/**
 * Gives whoever asks for a device the same one from now on. It outlives the models that think it theirs, and gives again what it has
 * compiled; a test that watches devices (`helpers.mjs`) gets others. Self-contained, for pages that get it as a text.
 */
export function shareDevice() {
  const { requestDevice } = GPUAdapter.prototype;

  /** @param {GPUDevice} device */
  const prepared = (device) => {
    device.destroy = () => undefined;
    /** @type {Map<GPUShaderModule, Map<string, GPUComputePipeline>>} */
    const pipelines = new Map();
    /** @type {Map<string, GPUShaderModule>} */
    const modules = new Map();
    const createShaderModule = device.createShaderModule.bind(device);
    device.createShaderModule = (descriptor) => {
      const { code } = descriptor;
      if (!modules.has(code)) modules.set(code, createShaderModule(descriptor));
      return modules.get(code);
    };
    const createComputePipeline = device.createComputePipeline.bind(device);
    device.createComputePipeline = (descriptor) => {
      const { layout, compute: { module, entryPoint, constants } } = descriptor;
      // Of another layout than a pipeline's own nobody knows here what it consists of.
      if (layout !== 'auto') return createComputePipeline(descriptor);
      if (!pipelines.has(module)) pipelines.set(module, new Map());
      const made = pipelines.get(module);
      const key = JSON.stringify([entryPoint, constants]);
      if (!made.has(key)) made.set(key, createComputePipeline(descriptor));
      return made.get(key);
    };
    return device;
  };

  /** @type {Promise<GPUDevice> | undefined} */
  let shared;
  GPUAdapter.prototype.requestDevice = function requestShared(...words) {
    shared ??= requestDevice.apply(this, words).then(prepared);
    return shared;
  };
}
