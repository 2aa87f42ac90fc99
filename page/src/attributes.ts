/** efiqa.attributes: nine cheap measures of one face, each 0–100, higher is better; formulas stand there. */

import { type Box, type Face, faceCrop } from "./faces";
import { type Pixels, crop, grey, resize, rounded } from "./pixels";

export const ATTRIBUTES = [
  "resolution", "sharpness", "exposure", "contrast", "lighting", "noise", "colour", "framing", "tilt",
] as const;
export type Attribute = (typeof ATTRIBUTES)[number];

/** A reason is an attribute's name, and `dark` or `bright` in the place of `exposure`. */
export type Reason = Exclude<Attribute, "exposure"> | "dark" | "bright";

export interface Attributes extends Record<Attribute, number | null> {
  /** At which end `exposure` is lost: too bright, or else too dark. */
  overexposed: boolean;
}

const SIDE = 128;
const FINE = 0.8;
const COARSE = 2.5;
const NO_EDGES = 0.01;
const BLOCK_SIDES = [32, 4 * SIDE] as const;
const GREY = 1.5;
const PROFILE = 6;

/** Numbers of a square, rows from the top. */
interface Plane {
  side: number;
  values: Float64Array;
}

/** The attributes of a face, to one decimal; null where one cannot be known. */
export function measure(image: Pixels, face: Face): Attributes {
  const { box } = face;
  const square = crop(image, faceCrop(box, image.width, image.height, 1));
  const part = resize(square, SIDE, SIDE);
  const plane = luma(part);
  const edges = coarseGradient(plane);
  const dark = scaled(quantile(sorted(plane.values), 0.95), 30, 120);
  const bright = brightness(part);
  const found: Record<Attribute, number | null> = {
    resolution: scaled(Math.log(Math.max(box.width, box.height, 1)), Math.log(25), Math.log(225)),
    sharpness: sharpness(plane, edges),
    exposure: Math.min(dark, bright),
    contrast: contrast(plane),
    lighting: lighting(plane),
    noise: Math.min(grain(plane, edges), blocks(square)),
    colour: colour(part),
    framing: framing(box, image.width, image.height),
    tilt: tilt(face),
  };
  for (const name of ATTRIBUTES) found[name] = found[name] === null ? null : rounded(found[name], 1);
  return { ...found, overexposed: bright < dark };
}

/** Names of the attributes below `limit`, worst first; what is not known is no reason. */
export function reasons(attributes: Attributes, limit = 50): Reason[] {
  return ATTRIBUTES.filter((name) => attributes[name] !== null && attributes[name] < limit)
    .sort((a, b) => attributes[a]! - attributes[b]!)
    .map((name) => (name === "exposure" ? (attributes.overexposed ? "bright" : "dark") : name));
}

function sharpness(plane: Plane, edges: Plane): number | null {
  const order = sorted(edges.values);
  const [weakest, strongest] = [quantile(order, 0.4), quantile(order, 0.8)];
  const contrastOf = (energy: Plane) =>
    mean(energy.values.filter((_, at) => edges.values[at]! >= strongest)) -
    mean(energy.values.filter((_, at) => edges.values[at]! <= weakest));
  const coarse = contrastOf(edges);
  if (coarse < NO_EDGES) return null;
  const fine = contrastOf(halved(gradient(plane, FINE)));
  return scaled(Math.log(Math.max(fine, 1e-9) / coarse), 0, Math.log(COARSE / FINE));
}

function brightness(part: Pixels): number {
  let full = 0;
  for (let at = 0; at < part.data.length; at += 3) {
    if (Math.max(part.data[at]!, part.data[at + 1]!, part.data[at + 2]!) >= 250) full++;
  }
  return scaled(full / (SIDE * SIDE), 0.6, 0.05);
}

function contrast(plane: Plane): number {
  const middle = mean(plane.values);
  const deviation = Math.sqrt(mean(plane.values.map((value) => (value - middle) ** 2)));
  return scaled(deviation / Math.max(middle, 1e-9), 0.04, 0.2);
}

function lighting(plane: Plane): number | null {
  const margin = SIDE / 8;
  const halves: [number, number] = [0, 0];
  for (let y = margin; y < SIDE - margin; y++) {
    for (let x = margin; x < SIDE - margin; x++) halves[x < SIDE / 2 ? 0 : 1] += plane.values[y * SIDE + x]!;
  }
  const [left, right] = halves;
  return left + right > 0 ? scaled(Math.abs(left - right) / (left + right), 0.3, 0.05) : null;
}

function grain(plane: Plane, edges: Plane): number {
  const wide = bordered(plane, 1, false);
  const mask = [1, -2, 1, -2, 4, -2, 1, -2, 1];
  const response = square(SIDE, (y, x) => {
    let sum = 0;
    for (let at = 0; at < 9; at++) {
      sum += mask[at]! * wide.values[(y + Math.trunc(at / 3)) * wide.side + x + (at % 3)]!;
    }
    return Math.abs(sum);
  });
  const limit = quantile(sorted(edges.values), 0.5);
  const sigma = (Math.sqrt(Math.PI / 2) / 6) * mean(halved(response).values.filter((_, at) => edges.values[at]! <= limit));
  return scaled(Math.log(Math.max(sigma, 0.1)), Math.log(16), 0);
}

function blocks(picture: Pixels): number {
  const side = picture.height;
  if (side < BLOCK_SIDES[0] || side > BLOCK_SIDES[1]) return 100;
  const start = Math.max(0, Math.floor((side - SIDE) / 2));
  const end = Math.min(side, Math.floor((side + SIDE) / 2));
  const central = grey(crop(picture, [start, start, end, end]));
  const size = end - start;
  return scaled((gridStep(central, size, 1, size) + gridStep(central, size, size, 1)) / 2, 8, 1);
}

/** The step at block borders along one axis: neighbours lie `step` apart, lines `line`. */
function gridStep(plane: Float32Array, size: number, step: number, line: number): number {
  const across = Array.from({ length: size - 1 }, (_, at) => {
    let sum = 0;
    for (let row = 0; row < size; row++) {
      sum += Math.abs(plane[row * line + (at + 1) * step]! - plane[row * line + at * step]!);
    }
    return sum / size;
  });
  const steps = across.slice(1, -1).map((value, at) => value - (across[at]! + across[at + 2]!) / 2);
  const places = Array.from({ length: 8 }, (_, place) => {
    const column = steps.filter((_, at) => at % 8 === place).sort((a, b) => a - b);
    return (column[Math.floor((column.length - 1) / 2)]! + column[Math.floor(column.length / 2)]!) / 2;
  });
  const best = places.indexOf(Math.max(...places));
  return places[best]! + Math.max(0, places[(best + 4) % 8]!);
}

function colour(part: Pixels): number | null {
  const margin = SIDE / 4;
  const levels = [0, 0, 0];
  const light = [0, 0, 0];
  let count = 0;
  for (let y = margin; y < SIDE; y += 2) {
    for (let x = margin; x < SIDE - margin; x += 2, count++) {
      for (let channel = 0; channel < 3; channel++) {
        const level = part.data[(y * SIDE + x) * 3 + channel]!;
        levels[channel]! += level;
        light[channel]! += LIGHT[level]!;
      }
    }
  }
  if ((Math.max(...levels) - Math.min(...levels)) / count < GREY) return null;
  const luminance = XYZ[1]!.reduce((sum, weight, channel) => sum + weight * light[channel]!, 0);
  const [x, y, z] = XYZ.map((row) => {
    const value = row.reduce((sum, weight, channel) => sum + weight * light[channel]! * (0.3 / luminance), 0);
    return Math.cbrt(value / row.reduce((sum, weight) => sum + weight, 0));
  }) as [number, number, number];
  const [red, yellow] = [500 * (x - y), 200 * (y - z)];
  const distance = Math.hypot(Math.max(5 - red, red - 25, 0), Math.max(5 - yellow, yellow - 35, 0));
  return 200 * (1 - 1 / (1 + Math.exp(-distance / 10)));
}

const LIGHT = Float64Array.from({ length: 256 }, (_, level) => {
  const value = level / 255;
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
});
const XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]];

function framing(box: Box, width: number, height: number): number {
  const side = Math.max(box.width, box.height, 1);
  const right = box.x + box.width - width;
  const bottom = box.y + box.height - height;
  return scaled(Math.max(-box.x, right, side / 4 - box.y, side / 20 + bottom, 0) / side, 0.3, 0);
}

function tilt({ box, landmarks }: Face): number | null {
  if (landmarks.length < 2) return null;
  const [[leftX, leftY], [rightX, rightY]] = landmarks as [[number, number], [number, number]];
  const apart = Math.hypot(rightX - leftX, rightY - leftY);
  if (PROFILE * apart < Math.max(box.width, box.height)) return null;
  return scaled(Math.abs((Math.atan2(rightY - leftY, rightX - leftX) * 180) / Math.PI), 38, 8);
}

/** 0 at `worst` and beyond, 100 at `best` and beyond, even between. */
function scaled(value: number, worst: number, best: number): number {
  return 100 * Math.min(Math.max((value - worst) / (best - worst), 0), 1);
}

const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
const sorted = (values: Float64Array) => values.slice().sort();

/** numpy.quantile of sorted values. */
function quantile(order: Float64Array, share: number): number {
  const place = share * (order.length - 1);
  const lower = Math.floor(place);
  const below = order[lower]!;
  return below + (order[Math.min(lower + 1, order.length - 1)]! - below) * (place - lower);
}

function square(side: number, value: (y: number, x: number) => number): Plane {
  const values = new Float64Array(side * side);
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) values[y * side + x] = value(y, x);
  return { side, values };
}

function luma(part: Pixels): Plane {
  return square(SIDE, (y, x) => {
    const at = (y * SIDE + x) * 3;
    return 0.299 * part.data[at]! + 0.587 * part.data[at + 1]! + 0.114 * part.data[at + 2]!;
  });
}

/** Squared Gaussian gradient of σ COARSE, of the halved plane. */
function coarseGradient(plane: Plane): Plane {
  const found = gradient(halved(plane), Math.sqrt((COARSE ** 2 - 0.25) / 4));
  return { side: found.side, values: found.values.map((value) => value / 4) };
}

/** Means of 2 × 2. */
function halved({ side, values }: Plane): Plane {
  return square(side / 2, (y, x) => {
    const at = 2 * y * side + 2 * x;
    return (values[at]! + values[at + 1]! + values[at + side]! + values[at + side + 1]!) / 4;
  });
}

/** The plane with `reach` more on each side, mirrored at its border, which is repeated or not. */
function bordered(plane: Plane, reach: number, repeated: boolean): Plane {
  const { side, values } = plane;
  const inside = (at: number) => {
    if (at < 0) return repeated ? -at - 1 : -at;
    return at < side ? at : 2 * side - at - (repeated ? 1 : 2);
  };
  return square(side + 2 * reach, (y, x) => values[inside(y - reach) * side + inside(x - reach)]!);
}

/** Squared magnitude of the gradient of a Gaussian, by its derivative's kernels; borders are mirrored. */
function gradient(plane: Plane, sigma: number): Plane {
  const reach = Math.ceil(3 * sigma);
  const places = Array.from({ length: 2 * reach + 1 }, (_, at) => at - reach);
  const bell = places.map((place) => Math.exp(-(place ** 2) / (2 * sigma ** 2)));
  const total = bell.reduce((sum, value) => sum + value);
  const smooth = bell.map((value) => value / total);
  const moment = places.reduce((sum, place, at) => sum + place ** 2 * smooth[at]!, 0);
  const slope = places.map((place, at) => (place * smooth[at]!) / moment); // of a ramp exactly its own
  const wide = bordered(plane, reach, true);
  const across = filtered(wide, slope, smooth);
  const down = filtered(wide, smooth, slope);
  return square(plane.side, (y, x) => across[y * plane.side + x]! ** 2 + down[y * plane.side + x]! ** 2);
}

/** Correlation of a bordered plane with a kernel along rows and one along columns. */
function filtered(wide: Plane, alongRows: number[], alongColumns: number[]): Float64Array {
  const side = wide.side - alongRows.length + 1;
  const rows = new Float64Array(wide.side * side);
  for (let y = 0; y < wide.side; y++) {
    for (let x = 0; x < side; x++) {
      let sum = 0;
      for (let at = 0; at < alongRows.length; at++) sum += alongRows[at]! * wide.values[y * wide.side + x + at]!;
      rows[y * side + x] = sum;
    }
  }
  const result = new Float64Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let sum = 0;
      for (let at = 0; at < alongColumns.length; at++) sum += alongColumns[at]! * rows[(y + at) * side + x]!;
      result[y * side + x] = sum;
    }
  }
  return result;
}
