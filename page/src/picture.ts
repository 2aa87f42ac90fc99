/** A file becomes pixels, upright, as efiqa.image makes them: RGB, no colour profile applied, transparency on white. */

import { type Pixels, grey, resize } from "./pixels";

/** Why there are no pixels; names are those of the package's `status` column. */
export type Trouble = "empty" | "not_an_image" | "not_read_here" | "corrupt" | "too_large" | "too_small";

export class PictureError extends Error {
  constructor(readonly trouble: Trouble) {
    super(trouble);
  }
}

const MAX_BYTES = 200_000_000;
const MAX_PIXELS = 178_956_970;
const MIN_SIDE = 8;
/** A canvas of more pixels than this fails on some phones, so a picture is read in bands. */
const BAND_PIXELS = 4_000_000;
const THUMBNAIL_SIDE = 480;

export interface Picture {
  pixels: Pixels;
  thumbnail: Blob;
  /** 64 bits that are nearly the same in pictures that look alike: is it darker than to its right (dHash)? */
  likeness: string;
}

/** Raises PictureError for what is no picture, damaged, or over the limits, which are checked before decoding. */
export async function decode(file: Blob): Promise<Picture> {
  if (file.size === 0) throw new PictureError("empty");
  if (file.size > MAX_BYTES) throw new PictureError("too_large");
  const head = new Uint8Array(await file.slice(0, 1 << 20).arrayBuffer());
  const kind = kindOf(head);
  if (kind === null) throw new PictureError("not_an_image");
  const size = sizeOf(kind, head);
  if (size && size[0] * size[1] > MAX_PIXELS) throw new PictureError("too_large");
  if (kind === "jpeg" && !(await isWhole(file, jpegParts(head).scan))) throw new PictureError("corrupt");
  const bitmap = await opened(file, kind);
  try {
    if (bitmap.width * bitmap.height > MAX_PIXELS) throw new PictureError("too_large");
    if (Math.min(bitmap.width, bitmap.height) < MIN_SIDE) throw new PictureError("too_small");
    const pixels = pixelsOf(bitmap);
    return { pixels, thumbnail: await thumbnailOf(bitmap), likeness: likenessOf(pixels) };
  } finally {
    bitmap.close();
  }
}

async function opened(file: Blob, kind: Kind): Promise<ImageBitmap> {
  const type = `image/${kind}`; // the file's own type may be wrong or missing
  try {
    return await createImageBitmap(new Blob([file], { type }), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
      imageOrientation: "from-image",
    });
  } catch {
    throw new PictureError(kind === "tiff" || kind === "heic" || kind === "avif" ? "not_read_here" : "corrupt");
  }
}

/** Whether a JPEG ends after its scan begins: browsers show one that was cut off, with grey where it ends. */
async function isWhole(file: Blob, scan: number): Promise<boolean> {
  const step = 1 << 20;
  for (let end = file.size; end > scan; end -= step) {
    const part = new Uint8Array(await file.slice(Math.max(scan, end - step - 1), end).arrayBuffer());
    for (let at = part.length - 2; at >= 0; at--) if (part[at] === 0xff && part[at + 1] === 0xd9) return true;
  }
  return false;
}

/** The pixels of a picture or a camera's frame, on white where it is transparent. */
export function pixelsOf(bitmap: ImageBitmap): Pixels {
  const { width, height } = bitmap;
  const data = new Uint8Array(width * height * 3);
  const rows = Math.max(1, Math.min(height, Math.floor(BAND_PIXELS / width)));
  const canvas = new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.fillStyle = "white";
  for (let top = 0, target = 0; top < height; top += rows) {
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const band = context.getImageData(0, 0, width, Math.min(rows, height - top)).data;
    for (let source = 0; source < band.length; source += 4) {
      data[target++] = band[source]!;
      data[target++] = band[source + 1]!;
      data[target++] = band[source + 2]!;
    }
  }
  return { width, height, data };
}

/** Whether a canvas gives back the pixels that were put into it; some privacy settings change them. */
export function canvasIsHonest(): boolean {
  const context = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true })!;
  const known = new ImageData(16, 16);
  known.data.forEach((_, at) => (known.data[at] = at % 4 === 3 ? 255 : (at * 37) % 256));
  context.putImageData(known, 0, 0);
  const found = context.getImageData(0, 0, 16, 16).data;
  return known.data.every((value, at) => value === found[at]);
}

async function thumbnailOf(bitmap: ImageBitmap): Promise<Blob> {
  const scale = Math.min(1, THUMBNAIL_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width!, height!);
  const context = canvas.getContext("2d")!;
  context.fillStyle = "white";
  context.fillRect(0, 0, width!, height!);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width!, height!);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
}

function likenessOf(pixels: Pixels): string {
  const small = grey(resize(pixels, 9, 8, 2));
  let bits = "";
  for (let at = 0; at < 72; at++) if (at % 9 < 8) bits += small[at]! < small[at + 1]! ? "1" : "0";
  return bits;
}

export type Kind = "jpeg" | "png" | "gif" | "bmp" | "tiff" | "webp" | "avif" | "heic";

const HEIC_BRANDS = ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"];

/** What a file's first bytes say it is; null where it is none of those that the package reads. */
export function kindOf(head: Uint8Array): Kind | null {
  const text = (start: number, end: number) => String.fromCharCode(...head.subarray(start, end));
  if (text(0, 3) === "\xff\xd8\xff") return "jpeg";
  if (text(0, 8) === "\x89PNG\r\n\x1a\n") return "png";
  if (/^GIF8[79]a/.test(text(0, 6))) return "gif";
  if (text(0, 2) === "BM") return "bmp";
  if (/^(II[*+]\0|MM\0[*+])/.test(text(0, 4))) return "tiff";
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return "webp";
  if (text(4, 8) !== "ftyp") return null;
  const brands = (text(8, 12) + text(16, Math.min(new DataView(head.buffer).getUint32(0), 256))).match(/.{4}/gs) ?? [];
  if (brands.some((brand) => brand === "avif" || brand === "avis")) return "avif";
  return brands.some((brand) => HEIC_BRANDS.includes(brand)) ? "heic" : null;
}

/** Width and height by the header, so that a bomb is never decoded; null where the header is not understood. */
export function sizeOf(kind: Kind, head: Uint8Array): [number, number] | null {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const text = (start: number, end: number) => String.fromCharCode(...head.subarray(start, end));
  try {
    if (kind === "png") return [view.getUint32(16), view.getUint32(20)];
    if (kind === "gif") return [view.getUint16(6, true), view.getUint16(8, true)];
    if (kind === "bmp") return [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))];
    if (kind === "webp") {
      const form = text(12, 16);
      if (form === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
      const bits = view.getUint32(21, true);
      if (form === "VP8L") return [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
      return [(view.getUint32(24, true) & 0xffffff) + 1, (view.getUint32(26, true) >> 8) + 1];
    }
    if (kind === "jpeg") return jpegParts(head).size;
    if (kind === "avif" || kind === "heic") {
      const at = text(0, 4096).indexOf("ispe");
      return at < 0 ? null : [view.getUint32(at + 8), view.getUint32(at + 12)];
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a header that ends early: the decoder says what is wrong
  }
  return null;
}

/** Where a JPEG's scan begins, and its size; a thumbnail in its metadata has an end and a size of its own. */
function jpegParts(head: Uint8Array): { size: [number, number] | null; scan: number } {
  let size: [number, number] | null = null;
  let at = 2;
  while (at + 9 < head.length && head[at] === 0xff) {
    const marker = head[at + 1]!;
    const word = (place: number) => head[place]! * 256 + head[place + 1]!;
    if (marker === 0xda) break;
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) size = [word(at + 7), word(at + 5)];
    at += marker === 0xff ? 1 : 2 + word(at + 2); // any number of 0xff may stand before a marker
  }
  return { size, scan: at };
}
