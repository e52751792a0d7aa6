/** Images that lie encoded (PNG, JPEG) in a folder or archive and are read and decoded when asked for. */
import { FormatError } from "../errors.js";
import { decodeImage } from "../image/decode.js";
import type { Pixels } from "../image/pixels.js";
import { checkLabels, type Dataset } from "./dataset.js";
import { describeEntry, type Files, readEntry } from "./files-node.js";

export interface EncodedData {
  name: string;
  files: Files;
  /** Which of the files are the images. */
  entries: Int32Array;
  labels: Int32Array;
  classNames: readonly string[];
  /** Images are decoded to this many channels. */
  channels: 1 | 3;
}

export class EncodedDataset implements Dataset {
  readonly name: string;
  readonly length: number;
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
  readonly channels: 1 | 3;
  readonly size = null;

  constructor(readonly data: EncodedData) {
    checkLabels(data.name, data.labels, data.classNames);
    this.name = data.name;
    this.length = data.labels.length;
    this.labels = data.labels;
    this.classNames = data.classNames;
    this.channels = data.channels;
  }

  async pixels(i: number): Promise<Pixels> {
    const { files, entries, channels } = this.data;
    try {
      return await decodeImage(await readEntry(files, entries[i]!), { channels });
    } catch (error) {
      // an image that cannot be read is as broken as one that cannot be decoded
      if (error instanceof FormatError || (error as NodeJS.ErrnoException).syscall) {
        throw new FormatError(`${this.describe(i)}: ${(error as Error).message}`, { cause: error });
      }
      throw error;
    }
  }

  describe(i: number): string {
    return describeEntry(this.data.files, this.data.entries[i]!);
  }
}
