/**
 * Draws what training augmentation does, for a person to look at: one row for each setting, the untouched image first.
 *
 *     npm run build && node scripts/augment-sheet.mjs OUT.png [IMAGE...]
 *
 * Without images (PNG or JPEG) it draws a synthetic one. Rows print their names in order.
 */
import { readFile, writeFile } from "node:fs/promises";
import { encode } from "fast-png";
import { operations } from "../dist/src/data/augment/rand-augment.js";
import { makeAugment } from "../dist/src/data/augment.js";
import { decodeImage } from "../dist/src/image/decode.js";
import { allocPixels, centreCrop } from "../dist/src/image/pixels.js";
import { resizeToCover } from "../dist/src/image/resize.js";
import { Philox } from "../dist/src/random/philox.js";

const SIDE = 96;
const GAP = 4;
const COLUMNS = 9;
const NORMALISE = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const FILL = NORMALISE.mean.map((v) => Math.round(255 * v));
const OFF = { crop_pad: 0, scale: null, ratio: [3 / 4, 4 / 3], hflip: 0, color_jitter: 0, aa: null, reprob: 0 };

const [outPath, ...imagePaths] = process.argv.slice(2);
if (outPath === undefined) {
  console.error("usage: node scripts/augment-sheet.mjs OUT.png [IMAGE...]");
  process.exit(2);
}
const images = await Promise.all(imagePaths.map(async (path) => decodeImage(await readFile(path), { channels: 3 })));
if (images.length === 0) images.push(synthetic());

const rows = [];
for (const image of images) {
  const square = centreCrop(resizeToCover(image, SIDE, SIDE, "bicubic"), SIDE, SIDE);
  const augmented = (name, config, from = square) => {
    const augment = makeAugment({ ...OFF, ...config }, { height: SIDE, width: SIDE }, NORMALISE);
    rows.push([name, square, ...Array.from({ length: COLUMNS - 1 }, (_, i) => sample(augment, from, name, i))]);
  };
  augmented("pad and crop, flip", { crop_pad: 12, hflip: 0.5 });
  augmented("random-resized-crop", { scale: [0.2, 1] }, image);
  augmented("colour jitter 0.4", { color_jitter: 0.4 });
  augmented("random erasing", { reprob: 1 });
  augmented("rand-m9-mstd0.5", { aa: "rand-m9-mstd0.5" });
  augmented("rand-m9-mstd0.5-inc1", { aa: "rand-m9-mstd0.5-inc1" });
  augmented(
    "everything",
    { scale: [0.2, 1], hflip: 0.5, color_jitter: 0.06, aa: "rand-m9-mstd0.5", reprob: 0.2 },
    image,
  );
  for (const [name, operation] of Object.entries(operations.increasing)) {
    const levels = [-10, -7, -3, 0, 1, 3, 7, 10].map((level) => {
      const sampling = () => ({ interpolation: "bicubic", fill: FILL });
      return operation(square, Math.abs(level) / 10, { sign: (v) => Math.sign(level) * v, sampling });
    });
    rows.push([`${name}, level -10 to 10`, square, ...levels]);
  }
}
await writeFile(outPath, draw(rows));
for (const [i, [name]] of rows.entries()) console.log(`row ${i + 1}: ${name}`);

function sample(augment, image, name, i) {
  const floats = new Float32Array(SIDE * SIDE * 3);
  augment(image, new Philox(0, i, name), floats, 0);
  const { mean, std } = NORMALISE;
  const data = Uint8ClampedArray.from(floats, (v, k) => 255 * (v * std[k % 3] + mean[k % 3]));
  return { data, height: SIDE, width: SIDE, channels: 3 };
}

function draw(rows) {
  const sheet = allocPixels(rows.length * (SIDE + GAP), COLUMNS * (SIDE + GAP), 3);
  sheet.data.fill(255);
  rows.forEach(([, ...cells], row) => {
    cells.forEach(({ data }, column) => {
      for (let y = 0; y < SIDE; y++) {
        const at = ((row * (SIDE + GAP) + y) * sheet.width + column * (SIDE + GAP)) * 3;
        sheet.data.set(data.subarray(y * SIDE * 3, (y + 1) * SIDE * 3), at);
      }
    });
  });
  return encode({ ...sheet, depth: 8 });
}

/** Gradients, a disc, bars and a checkerboard: orientation, edges and colours can all be told. */
function synthetic() {
  const image = allocPixels(150, 200, 3);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      let colour = [60 + x / 2, 60 + y, 160 - x / 2];
      if ((x - 60) ** 2 + (y - 60) ** 2 < 1600) colour = [220, 60, 40];
      if (x > 120 && x < 170 && y > 20 && y < 60) colour = x % 10 < 5 ? [20, 20, 20] : [240, 240, 230];
      if (x > 110 && x < 180 && y > 90 && y < 130) colour = ((x >> 3) + (y >> 3)) % 2 ? [30, 140, 60] : [230, 210, 60];
      image.data.set(colour, (y * image.width + x) * 3);
    }
  }
  return image;
}
