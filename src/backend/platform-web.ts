/** The platform in a browser: no native code, threads are module-less workers from a Blob. */
import type { Platform } from "./platform.js";

export const platform: Platform = {
  cpuCount: () => navigator.hardwareConcurrency || 1,

  processor: () => navigator.userAgent,

  // Workers have no localStorage, and a page's policy or a full one may deny it: then nothing is kept.
  recall(key) {
    try {
      return localStorage.getItem(`dsnet ${key}`);
    } catch {
      return null;
    }
  },

  remember(key, text) {
    try {
      localStorage.setItem(`dsnet ${key}`, text);
    } catch {}
  },

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
