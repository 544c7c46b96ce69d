/** The student as LiteRT.js runs it. */
import {
  loadAndCompile, loadLiteRt, supportsFeature, Tensor,
} from '@litertjs/core';

// One function with a 128-bit vector: every build of LiteRT.js needs these.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1,
  8, 0, 65, 0, 253, 15, 253, 98, 11,
]);
const SERVER = 'Is `ft-tf demo` still running?';
const RUNS = 50;
const MILLISECONDS = 600;  // for all runs of a measurement, with at least 3

/** Loads LiteRT.js; returns how many threads it can use. */
export async function load() {
  if (typeof WebAssembly !== 'object') {
    throw new Error('This browser has no WebAssembly: use a current one.');
  }
  if (!WebAssembly.validate(SIMD)) {
    throw new Error(
        'This browser, or this processor, has no WebAssembly SIMD, which ' +
        'LiteRT.js needs: use a current browser.');
  }
  const threads = self.crossOriginIsolated &&
      await supportsFeature('relaxedSimd') && await supportsFeature('threads');
  try {
    await loadLiteRt('/litert/core/wasm/', {threads});
  } catch (error) {
    // Where a script does not arrive, it is an event.
    throw error instanceof Error ?
        error : new Error(`LiteRT.js does not load. ${SERVER}`);
  }
  return threads ? navigator.hardwareConcurrency : 1;
}

/** A compiled file. */
export class Student {
  /**
   * Fetches and compiles a file.
   *
   * @param {object} file As student.json describes it.
   * @param {number} threads At most what `load` returned.
   */
  static async open(file, threads) {
    let content;
    try {
      const response = await fetch(`/files/${file.name}`);
      content = new Uint8Array(await response.arrayBuffer());
    } catch {
      throw new Error(`${file.name} is not received. ${SERVER}`);
    }
    const model = await loadAndCompile(
        content, {accelerator: 'wasm', cpuOptions: {numThreads: threads}});
    return new Student(file, threads, model);
  }

  constructor(file, threads, model) {
    this.file = file;
    this.threads = threads;
    this.model = model;
  }

  /**
   * Returns what the file gives, uint8 or float32, as it is.
   *
   * @param {Uint8Array} pixels [height, width, channels].
   */
  async run(pixels) {
    const input = this.input(pixels);
    try {
      const [output] = await this.model.run([input]);
      const values = output.toTypedArray().slice();
      output.delete();
      return values;
    } finally {
      input.delete();
    }
  }

  /** Returns the milliseconds of some runs with one image, in order of size. */
  async measure(pixels) {
    const input = this.input(pixels);
    const times = [];
    const end = performance.now() + MILLISECONDS;
    while (times.length < 3 ||
           times.length < RUNS && performance.now() < end) {
      const start = performance.now();
      const [output] = await this.model.run([input]);
      times.push(performance.now() - start);
      output.delete();
    }
    input.delete();
    return times.sort((one, other) => one - other);
  }

  input(pixels) {
    const {dtype, shape} = this.file.input;
    const values = dtype === 'uint8' ? pixels : Float32Array.from(pixels);
    return new Tensor(values, shape);
  }

  delete() {
    this.model.delete();
  }
}

/**
 * Returns probabilities: the softmax of the logits.
 *
 * @param {Uint8Array|Float32Array} values As `run` returns them.
 * @param {{dtype: string, scale: number, zero_point: number}} output Of the
 *     file; a logit is scale * (value - zero_point) if values are integers.
 */
export function probabilities(values, {dtype, scale, zero_point: zero}) {
  const logits = Float64Array.from(
      values, value => dtype === 'float32' ? value : scale * (value - zero));
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map(logit => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(power => power / sum);
}
