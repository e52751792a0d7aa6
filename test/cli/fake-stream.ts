/** A stream that keeps what is written to it. */
import type { Output } from "../../src/cli/progress.js";

export class FakeStream implements Output {
  readonly writes: string[] = [];
  readonly isTTY: boolean | undefined;
  readonly columns: number | undefined;

  constructor({ isTTY, columns }: { isTTY?: boolean; columns?: number } = {}) {
    this.isTTY = isTTY;
    this.columns = columns;
  }

  write(text: string): void {
    this.writes.push(text);
  }

  get text(): string {
    return this.writes.join("");
  }
}
