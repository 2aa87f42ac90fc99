/** The networks in ONNX Runtime: WebGPU where there is one, else WebAssembly. */

import type { InferenceSession, Tensor, TensorConstructor } from "onnxruntime-web/wasm";
import wasmModule from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasmBinary from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import gpuModule from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import gpuBinary from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import detectorFile from "../../src/efiqa/models/blazeface.onnx?url";
import card from "../../src/efiqa/models/student.json";
import studentFile from "../../src/efiqa/models/student.onnx?url";
import known from "./known.json";
import type { Pixels } from "./pixels";
import { type Networks, scoreCrop } from "./scorer";

export type Backend = "webgpu" | "wasm";

export interface Runtime extends Networks {
  backend: Backend;
  threads: number;
}

/** More do not help a network of this size, and leave the page without a core. */
const MOST_THREADS = 4;
/** Two runtimes' scores of one picture may lie this far apart. */
const TOLERANCE = 0.005;

export class WrongNumbers extends Error {}

/** Start the networks and see that they count as Python's do; raises WrongNumbers where none does. */
export async function open(wanted: Backend | "auto"): Promise<Runtime> {
  if (wanted !== "wasm" && (await hasGpu(wanted === "webgpu"))) {
    try {
      return await opened("webgpu");
    } catch (error) {
      console.warn(error);
    }
  }
  return opened("wasm");
}

/** Whether there is WebGPU; an emulated one, slower than WebAssembly, counts only where it was asked for. */
async function hasGpu(emulated: boolean): Promise<boolean> {
  try {
    const adapter = (await navigator.gpu?.requestAdapter()) ?? null;
    return adapter !== null && (emulated || !adapter.info.isFallbackAdapter);
  } catch {
    return false;
  }
}

async function opened(backend: Backend): Promise<Runtime> {
  const ort = backend === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
  const threads = self.crossOriginIsolated ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency)) : 1;
  const [mjs, wasm] = backend === "webgpu" ? [gpuModule, gpuBinary] : [wasmModule, wasmBinary];
  const absolute = (file: string) => new URL(file, self.location.href).href;
  ort.env.wasm.wasmPaths = { mjs: absolute(mjs), wasm: absolute(wasm) };
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const load = async (file: string, executionProviders: string[]) =>
    ort.InferenceSession.create(await bytes(file), { executionProviders, graphOptimizationLevel: "all" });
  // The detector's boxes decide which pixels are scored: it stays where its numbers are Python's.
  const detector = await load(detectorFile, ["wasm"]);
  const student = await load(studentFile, backend === "webgpu" ? ["webgpu", "wasm"] : ["wasm"]);
  const networks = networksOf(detector, student, ort.Tensor);
  const found = await scoreCrop(checkPicture(), networks);
  if (Math.abs(found - known.check) > TOLERANCE) {
    throw new WrongNumbers(`${backend} gives ${found} where ${known.check} is right`);
  }
  return { ...networks, backend, threads };
}

function networksOf(detector: InferenceSession, student: InferenceSession, make: TensorConstructor): Networks {
  const run = async (session: InferenceSession, pixels: Uint8Array, side: number): Promise<Record<string, Tensor>> =>
    session.run({ image: new make("uint8", pixels, [1, side, side, 3]) });
  return {
    detector: async (tile) => {
      const { regressors, logits } = await run(detector, tile, 256);
      return { regressors: regressors!.data as Float32Array, logits: logits!.data as Float32Array };
    },
    student: async (pixels) => (await run(student, pixels, card.input_size)).score!.data[0] as number,
  };
}

async function bytes(file: string): Promise<Uint8Array> {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** The picture of tests/golden/make.py whose score is known. */
function checkPicture(): Pixels {
  const side = card.input_size;
  const data = new Uint8Array(side * side * 3);
  for (let y = 0, at = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      for (let channel = 0; channel < 3; channel++) {
        data[at++] = x * 3 + y * 5 + channel * 40 + Math.floor((x * y) / 64);
      }
    }
  }
  return { width: side, height: side, data };
}
