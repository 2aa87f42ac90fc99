/** All that takes time: decoding, finding faces, scoring. One task at a time, so the page itself never waits. */

import { PictureError, type Trouble, canvasIsHonest, decode, pixelsOf } from "./picture";
import type { Pixels } from "./pixels";
import { type Backend, type Runtime, WrongNumbers, open } from "./runtime";
import { type ScoredFace, score } from "./scorer";

/** Why nothing can be scored in this browser. */
export type StartTrouble = "no_wasm" | "no_canvas" | "changed_pixels" | "wrong_numbers" | "no_models";

export type Started = { backend: Backend; threads: number } | { trouble: StartTrouble };

export interface Judged {
  width: number;
  height: number;
  faces: ScoredFace[];
  /** What the parts took. */
  decodeMs: number;
  scoreMs: number;
}

export type Photo = (Judged & { thumbnail: Blob; likeness: string }) | { trouble: Trouble };

/** What the page asks, and what it is answered. */
export interface Tasks {
  start(backend: Backend | "auto"): Promise<Started>;
  /** With `score` false only what a sheet needs, for photos that the server judges. */
  photo(asked: { file: Blob; score: boolean }): Promise<Photo>;
  /** A camera's frame. */
  frame(bitmap: ImageBitmap): Promise<Judged>;
  /** Keep the last frame as the picture to be taken. */
  keep(): Promise<void>;
  /** The kept frame as a PNG, or null. */
  shot(): Promise<Blob | null>;
}

let runtime: Runtime | null = null;
let last: Pixels | null = null;
let kept: Pixels | null = null;

const tasks: Tasks = {
  async start(backend) {
    if (typeof WebAssembly === "undefined") return { trouble: "no_wasm" };
    if (typeof OffscreenCanvas === "undefined" || !("createImageBitmap" in self)) return { trouble: "no_canvas" };
    if (!canvasIsHonest()) return { trouble: "changed_pixels" };
    try {
      runtime = await open(backend);
    } catch (error) {
      console.error(error);
      return { trouble: error instanceof WrongNumbers ? "wrong_numbers" : "no_models" };
    }
    return { backend: runtime.backend, threads: runtime.threads };
  },

  async photo({ file, score: wanted }) {
    try {
      const begun = performance.now();
      const { pixels, thumbnail, likeness } = await decode(file);
      return { ...(await judged(pixels, begun, wanted)), thumbnail, likeness };
    } catch (error) {
      if (error instanceof PictureError) return { trouble: error.trouble };
      if (error instanceof RangeError) return { trouble: "too_large" }; // no memory for so many pixels
      throw error;
    }
  },

  async frame(bitmap) {
    const begun = performance.now();
    last = pixelsOf(bitmap);
    bitmap.close();
    return judged(last, begun);
  },

  async keep() {
    kept = last;
  },

  async shot() {
    const picture = kept;
    kept = null;
    return picture && png(picture);
  },
};

async function judged(pixels: Pixels, begun: number, wanted = true): Promise<Judged> {
  const decoded = performance.now();
  const faces = wanted ? await score(pixels, runtime!) : [];
  const { width, height } = pixels;
  return { width, height, faces, decodeMs: decoded - begun, scoreMs: performance.now() - decoded };
}

function png({ width, height, data }: Pixels): Promise<Blob> {
  const image = new ImageData(width, height);
  for (let source = 0, target = 0; target < image.data.length; target++) {
    image.data[target] = target % 4 === 3 ? 255 : data[source++]!;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")!.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

let queue: Promise<unknown> = Promise.resolve();

self.onmessage = ({ data: { id, name, argument } }: MessageEvent) => {
  const task = tasks[name as keyof Tasks] as (argument: unknown) => Promise<unknown>;
  queue = queue.then(async () => {
    try {
      self.postMessage({ id, value: await task(argument) });
    } catch (error) {
      self.postMessage({ id, error: String(error) });
    }
  });
};
