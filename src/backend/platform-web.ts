/** The platform in a browser: no native code, threads are module-less workers from a Blob. */
import type { Platform } from "./platform.js";

export const platform: Platform = {
  cpuCount: () => navigator.hardwareConcurrency || 1,

  startWorker(source, data, onError) {
    const script = new Blob([`${source}\nonmessage = (event) => start(event.data);`], { type: "text/javascript" });
    const url = URL.createObjectURL(script);
    const worker = new Worker(url);
    URL.revokeObjectURL(url);
    worker.onerror = (event) => onError(event.message || "the page's policy forbids workers from blob: URLs");
    worker.postMessage(data);
    return () => worker.terminate();
  },

  loadNative: () => "browsers run no native code",
};
