/**
 * Where a plan's activations lie. The images keep their place; what crosses a gate lies in one of two boundary areas, used in turn;
 * what lives inside a segment shares the rest.
 */
import { Arena } from "../backend/arena.js";
import type { Buffer, PlannedOp } from "./emit.js";

/** A stretch between gates, at one width. */
export interface Segment {
  readonly ops: readonly Pick<PlannedOp, "buffers">[];
  /** How many gates lie before it. */
  readonly segment: number;
  readonly in: readonly Buffer[];
  /** Buffers that cross the gate behind it. */
  readonly boundary: readonly Buffer[];
  /** What is read after its last op, beside what crosses the gate. */
  readonly outcomes: readonly Buffer[];
  /** Whether it takes one image at a time. */
  readonly single: boolean;
}

/** Offsets of all buffers, and the bytes that they need together, for batches of up to `batch` images. */
export function layOut(
  segments: readonly Segment[],
  image: Buffer,
  batch: number,
): { bytes: number; offsets: Map<Buffer, number> } {
  const bytesOf = (b: Buffer, images: number) => Math.ceil((b.floats * images * 4) / 64) * 64;
  const bytes = (b: Buffer) => bytesOf(b, batch);
  const total = (buffers: readonly Buffer[]) => buffers.reduce((sum, b) => sum + bytes(b), 0);
  // What crosses gate g lies in area g % 2, behind the images.
  const sizes: [number, number] = [0, 0];
  for (const s of segments) sizes[s.segment % 2] = Math.max(sizes[s.segment % 2]!, total(s.boundary));
  const areas = [bytes(image), bytes(image) + sizes[0]];
  const inside = areas[1]! + sizes[1];
  const offsets = new Map<Buffer, number>([[image, 0]]);
  let end = inside;
  for (const s of segments) {
    let at = areas[s.segment % 2]!;
    for (const b of s.boundary) {
      offsets.set(b, at);
      at += bytes(b);
    }
    const size = (b: Buffer) => bytesOf(b, s.single && !s.outcomes.includes(b) ? 1 : batch);
    end = Math.max(end, inside + placeInside(s, size, (b, offset) => offsets.set(b, inside + offset)));
  }
  return { bytes: end, offsets };
}

/** Offsets for the buffers that live inside a segment, reused once they are dead. Returns the bytes needed. */
function placeInside(
  segment: Segment,
  bytes: (b: Buffer) => number,
  place: (b: Buffer, offset: number) => void,
): number {
  const { ops, outcomes } = segment;
  const elsewhere = new Set([...segment.in, ...segment.boundary]);
  const space = new Arena(64, Number.MAX_SAFE_INTEGER);
  const placed = new Map<Buffer, number>();
  let end = 0;
  const put = (b: Buffer) => {
    if (elsewhere.has(b) || placed.has(b)) return;
    const offset = space.alloc(bytes(b));
    placed.set(b, offset);
    place(b, offset - 64);
    end = Math.max(end, offset - 64 + bytes(b));
  };
  // Outcomes share their place with nothing: those of one image outlive the run of the next.
  outcomes.forEach(put);
  const lastUse = new Map<Buffer, number>();
  ops.forEach(({ buffers }, i) => {
    for (const b of buffers) if (!elsewhere.has(b) && !outcomes.includes(b)) lastUse.set(b, i);
  });
  ops.forEach(({ buffers }, i) => {
    buffers.forEach(put);
    for (const b of buffers) if (lastUse.get(b) === i) space.free(placed.get(b)!);
  });
  return end;
}
