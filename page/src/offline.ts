/** Keeping the page for use without a connection. */

import type { Backend } from "./runtime";

/** Whether the page, with this runtime, is kept from now on. */
export async function keepOffline(backend: Backend): Promise<boolean> {
  if (!import.meta.env.PROD || !navigator.serviceWorker) return false;
  try {
    await navigator.serviceWorker.register("service-worker.js", { updateViaCache: "none" });
    const { active } = await navigator.serviceWorker.ready;
    return await new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }) => resolve(data);
      active!.postMessage(backend, [port2]);
    });
  } catch {
    return false; // private windows and full disks refuse; the page works without
  }
}
