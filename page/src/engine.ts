/** The worker, as functions that answer with promises. */

import type { Tasks } from "./worker";

type Answer<Name extends keyof Tasks> = Awaited<ReturnType<Tasks[Name]>>;

export class Engine {
  #worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #next = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, value, error } }) => {
      const { resolve, reject } = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      if (error === undefined) resolve(value as never);
      else reject(new Error(error));
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message || "the worker stopped"));
      this.#waiting.clear();
    };
  }

  /** Whatever is under way is not answered any more. */
  stop(): void {
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(new Error("stopped"));
    this.#waiting.clear();
  }

  ask<Name extends keyof Tasks>(
    name: Name,
    argument?: Parameters<Tasks[Name]>[0],
    transfer: Transferable[] = [],
  ): Promise<Answer<Name>> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, name, argument }, transfer);
    });
  }
}
