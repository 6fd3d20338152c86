/** Masks of other programs: white, or opaque, is inside. */

import { fromRows, type Mask } from "../core/mask";

export async function maskOfImage(file: Blob, [width, height]: readonly [number, number]): Promise<Mask> {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error("This file is no image that the browser reads.");
  });
  try {
    if (bitmap.width !== width || bitmap.height !== height) {
      throw new Error(`The mask has ${bitmap.width}×${bitmap.height} pixels, the picture ${width}×${height}.`);
    }
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("This browser has no canvas.");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const mask = fromRows([width, height], (i) => {
      const isLight = Math.max(data[4 * i] ?? 0, data[4 * i + 1] ?? 0, data[4 * i + 2] ?? 0) >= 128;
      return isLight && (data[4 * i + 3] ?? 0) >= 128;
    });
    if (mask.box.width === 0) throw new Error("The mask has no white pixels.");
    return mask;
  } finally {
    bitmap.close();
  }
}
