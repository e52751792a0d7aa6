/** A worker process, as seen by whoever measures: one request at a time, see serve.mjs. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export class Worker {
  #child;
  #waiting = null;
  #last = "";

  constructor(command, args) {
    this.#child = spawn(command, args, {
      stdio: ["pipe", "pipe", "pipe"],
      cwd: fileURLToPath(new URL(".", import.meta.url)),
    });
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#waiting?.resolve(JSON.parse(line)));
    this.#child.stderr.on("data", (text) => {
      this.#last = String(text).trim().split("\n").at(-1);
    });
    this.#child.stdin.on("error", () => {}); // `exit` tells of it
    this.#child.on("exit", (code, signal) => {
      this.exited = new Error(`ended with ${signal ?? `status ${code}`}: ${this.#last}`);
      this.#waiting?.reject(this.exited);
    });
    this.#child.on("error", (error) => {
      this.exited = error;
      this.#waiting?.reject(error);
    });
  }

  /** The answer; an Error where the worker tells of one or ends. */
  async ask(request) {
    if (this.exited) throw this.exited;
    const answer = await new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    });
    this.#waiting = null;
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  /** Ends the process. */
  close() {
    this.#child.stdin.end();
  }
}
