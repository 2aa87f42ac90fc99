/** Pictures as the Python package has them, RGB uint8 (H, W, 3), and Pillow's ways to make them smaller. */

export interface Pixels {
  width: number;
  height: number;
  /** (height, width, 3), rows from the top. */
  data: Uint8Array;
}

/** [left, top, right, bottom] in whole pixels, the last two exclusive. */
export type Bounds = [number, number, number, number];

/** Python's round: a half goes to the even neighbour. */
export function round(value: number): number {
  const below = Math.floor(value);
  const part = value - below;
  return part > 0.5 || (part === 0.5 && below % 2 !== 0) ? below + 1 : below;
}

/** `value` to `digits` decimals. */
export function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

export function crop(image: Pixels, [left, top, right, bottom]: Bounds): Pixels {
  const width = right - left;
  const height = bottom - top;
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const start = ((top + row) * image.width + left) * 3;
    data.set(image.data.subarray(start, start + width * 3), row * width * 3);
  }
  return { width, height, data };
}

/**
 * What Pillow's resize((width, height), BILINEAR, reducing_gap) gives, to the last bit.
 *
 * The support of the triangle widens as the picture shrinks. Weights are integers of PRECISION bits, and the first
 * pass is rounded to whole levels before the second, as libImaging's Resample.c does. With a `gap`, whole boxes
 * of pixels are averaged first where at least `gap` times the size remains.
 */
export function resize(image: Pixels, width: number, height: number, gap?: number): Pixels {
  if (image.width === width && image.height === height) return image;
  let reach: [number, number] = [image.width, image.height];
  if (gap !== undefined) {
    const across = Math.trunc(image.width / width / gap) || 1;
    const down = Math.trunc(image.height / height / gap) || 1;
    reach = [Math.fround(image.width / across), Math.fround(image.height / down)]; // C's float in Pillow
    if (across > 1 || down > 1) image = reduce(image, across, down);
  }
  // Columns first where that leaves much less to do, as Pillow does since 13; before, some pixels differ by 1.
  const columnsFirst = image.height > height && image.height - height > 2 * (image.width - width);
  for (const across of columnsFirst ? [false, true] : [true, false]) {
    const [from, to, size] = across ? [reach[0], width, image.width] : [reach[1], height, image.height];
    if (size !== to || from !== to) image = resample(image, to, from, across);
  }
  return image;
}

const PRECISION = 22;

interface Weights {
  /** For each output pixel the first input pixel, and how many follow. */
  first: Int32Array;
  count: Int32Array;
  /** `most` weights for each output pixel, in units of 2^-PRECISION. */
  weights: Int32Array;
  most: number;
}

/** The triangle's weights from `length` input pixels, of which `reach` are spread over `size` output pixels. */
function triangle(length: number, reach: number, size: number): Weights {
  const scale = reach / size;
  const widened = Math.max(scale, 1);
  const narrowed = 1 / widened;
  const most = Math.ceil(widened) * 2 + 1;
  const first = new Int32Array(size);
  const count = new Int32Array(size);
  const weights = new Int32Array(size * most);
  const exact = new Float64Array(most);
  for (let out = 0; out < size; out++) {
    const centre = (out + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - widened + 0.5));
    const end = Math.min(length, Math.trunc(centre + widened + 0.5));
    let total = 0;
    for (let at = start; at < end; at++) {
      const weight = Math.max(0, 1 - Math.abs((at - centre + 0.5) * narrowed));
      exact[at - start] = weight;
      total += weight;
    }
    for (let at = 0; at < end - start; at++) {
      weights[out * most + at] = Math.trunc(0.5 + (exact[at]! / (total || 1)) * 2 ** PRECISION);
    }
    first[out] = start;
    count[out] = end - start;
  }
  return { first, count, weights, most };
}

/** One pass, along rows or along columns. */
function resample(image: Pixels, size: number, reach: number, across: boolean): Pixels {
  const { first, count, weights, most } = triangle(across ? image.width : image.height, reach, size);
  const width = across ? size : image.width;
  const height = across ? image.height : size;
  const data = new Uint8Array(width * height * 3);
  const step = across ? 3 : image.width * 3;
  let target = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const out = across ? x : y;
      const from = across ? (y * image.width + first[out]!) * 3 : (first[out]! * image.width + x) * 3;
      const end = out * most + count[out]!;
      let red = 1 << (PRECISION - 1);
      let green = red;
      let blue = red;
      for (let at = out * most, source = from; at < end; at++, source += step) {
        const weight = weights[at]!;
        red += image.data[source]! * weight;
        green += image.data[source + 1]! * weight;
        blue += image.data[source + 2]! * weight;
      }
      data[target++] = Math.min(red >> PRECISION, 255);
      data[target++] = Math.min(green >> PRECISION, 255);
      data[target++] = Math.min(blue >> PRECISION, 255);
    }
  }
  return { width, height, data };
}

/** Means of across × down boxes, those at the right and lower border of what is left; Pillow's reduce. */
export function reduce(image: Pixels, across: number, down: number): Pixels {
  const width = Math.ceil(image.width / across);
  const height = Math.ceil(image.height / down);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const top = y * down;
    const bottom = Math.min(top + down, image.height);
    for (let x = 0; x < width; x++) {
      const left = x * across;
      const right = Math.min(left + across, image.width);
      const count = (bottom - top) * (right - left);
      // Pillow divides by a multiplication with a reciprocal in single precision.
      const reciprocal = Math.trunc(Math.fround(2 ** 32 / (256 * count)));
      for (let channel = 0; channel < 3; channel++) {
        let sum = Math.trunc(count / 2);
        for (let row = top; row < bottom; row++) {
          const start = (row * image.width + left) * 3 + channel;
          for (let at = start; at < start + (right - left) * 3; at += 3) sum += image.data[at]!;
        }
        data[(y * width + x) * 3 + channel] = Math.floor((sum * reciprocal) / 2 ** 24);
      }
    }
  }
  return { width, height, data };
}

/** Pillow's convert("L"): luma of ITU-R BT.601 in whole levels. */
export function grey(image: Pixels): Float32Array {
  const plane = new Float32Array(image.width * image.height);
  for (let at = 0, source = 0; at < plane.length; at++, source += 3) {
    const [red, green, blue] = [image.data[source]!, image.data[source + 1]!, image.data[source + 2]!];
    plane[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return plane;
}
