/** efiqa.faces: the same detector, BlazeFace, with the same views of a picture and the same rule for the crop. */

import { type Bounds, type Pixels, reduce, resize, round, rounded } from "./pixels";

/** A rectangle in pixels of the upright picture; (x, y) is its top left corner. It may reach outside. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Face {
  box: Box;
  /** The detector's confidence, 0 to 1. */
  detection: number;
  /** (x, y): the eye on the picture's left, the one on its right, nose tip, mouth, both ears. */
  landmarks: [number, number][];
}

/** The network: pixels of (256, 256, 3) → 896 × 16 numbers relative to the anchors, and 896 logits. */
export type Detector = (tile: Uint8Array) => Promise<{ regressors: Float32Array; logits: Float32Array }>;

// Why each number is what it is stands in src/efiqa/faces.py; the golden files hold both to the same faces.
const INPUT_SIDE = 256;
const LEVELS = [256, 448, 1024];
const LEAST_SEEN = 960;
const ZOOMED_OUT = 160;
const CLOSE_UP = 0.4;
const PORTRAIT = 0.35;
const TILE_OVERLAP = 64;
const MIN_DETECTION = 0.6;
const MIN_DETECTION_IN_TILES = 0.75;
const MERGE_IOU = 0.3;
const MERGE_INSIDE = 0.6;

/** left, top, right, bottom, 6 × (x, y), detection. */
type Row = number[];

const ANCHORS = anchors();

/** x, y of each anchor: two in each cell of 16 pixels, then six in each cell of 32. */
function anchors(): number[] {
  const centres: number[] = [];
  for (const [stride, repeats] of [[16, 2], [32, 6]] as const) {
    for (let y = stride / 2; y < INPUT_SIDE; y += stride) {
      for (let x = stride / 2; x < INPUT_SIDE; x += stride) {
        for (let repeat = 0; repeat < repeats; repeat++) centres.push(x, y);
      }
    }
  }
  return centres;
}

/** The square around a face that is scored: `scale` times its longer side, centred, shifted inside, no padding. */
export function faceCrop(box: Box, width: number, height: number, scale: number): Bounds {
  const wanted = scale * Math.max(box.width, box.height);
  const side = Math.max(1, Math.min(round(wanted), width, height));
  const left = Math.min(Math.max(round(box.x + box.width / 2 - side / 2), 0), width - side);
  const top = Math.min(Math.max(round(box.y + box.height / 2 - side / 2), 0), height - side);
  return [left, top, left + side, top + side];
}

/** The faces of a picture, largest box first; boxes to one decimal, detection to four. */
export async function detect(image: Pixels, network: Detector): Promise<Face[]> {
  const factor = Math.max(1, Math.floor(Math.max(image.width, image.height) / LEAST_SEEN));
  if (factor > 1) image = reduce(image, factor, factor);
  const longer = Math.max(image.width, image.height);
  const found: Row[] = [];
  for (const [level, side] of LEVELS.entries()) {
    const widest = Math.max(0, ...found.map((row) => row[2]! - row[0]!));
    if (level > 0 && (longer <= 1.5 * LEVELS[level - 1]! || widest > PORTRAIT * longer)) break;
    found.push(...(await look(image, level > 0 ? Math.min(side, longer) : side, level > 0, network)));
    if (level === 0 && !found.length) {
      const rows = await look(image, ZOOMED_OUT, false, network);
      found.push(...rows.filter((row) => row[2]! - row[0]! >= CLOSE_UP * longer));
    }
  }
  return merge(found).map((row) => toFace(row.map((value, at) => (at < 16 ? value * factor : value))));
}

function toFace(row: Row): Face {
  const [x, y, right, bottom] = row as [number, number, number, number];
  const landmarks: [number, number][] = [];
  for (let at = 4; at < 16; at += 2) landmarks.push([row[at]!, row[at + 1]!]);
  const [left, top, width, height] = [x, y, right - x, bottom - y].map((value) => rounded(value, 1));
  const box = { x: left!, y: top!, width: width!, height: height! };
  return { box, detection: rounded(row[16]!, 4), landmarks };
}

/** Candidates of one view whose longer side is `longer`, in pixels of the picture. */
async function look(image: Pixels, longer: number, tiled: boolean, network: Detector): Promise<Row[]> {
  const scale = longer / Math.max(image.width, image.height);
  const width = Math.max(1, round(image.width * scale));
  const height = Math.max(1, round(image.height * scale));
  const reduced = resize(image, width, height, 2);
  const margin = longer > ZOOMED_OUT ? 0 : Math.trunc((INPUT_SIDE - longer) / 2);
  const found: Row[] = [];
  for (const top of tileStarts(height)) {
    for (const left of tileStarts(width)) {
      const tile = new Uint8Array(INPUT_SIDE * INPUT_SIDE * 3);
      const across = Math.min(INPUT_SIDE, width - left);
      for (let row = 0; row < Math.min(INPUT_SIDE, height - top); row++) {
        const start = ((top + row) * width + left) * 3;
        const target = ((row + margin) * INPUT_SIDE + margin) * 3;
        tile.set(reduced.data.subarray(start, start + across * 3), target);
      }
      let rows = await candidates(tile, tiled ? MIN_DETECTION_IN_TILES : MIN_DETECTION, network);
      if (tiled) rows = rows.filter((row) => isWhole(row, [left, top], [width, height]));
      for (const row of rows) {
        for (let at = 0; at < 16; at += 2) {
          row[at] = (row[at]! + left - margin) * (image.width / width);
          row[at + 1] = (row[at + 1]! + top - margin) * (image.height / height);
        }
        found.push(row);
      }
    }
  }
  return found;
}

/** Where tiles begin along an axis: evenly spread, overlapping by at least TILE_OVERLAP. */
function tileStarts(length: number): number[] {
  if (length <= INPUT_SIDE) return [0];
  const count = Math.ceil((length - TILE_OVERLAP) / (INPUT_SIDE - TILE_OVERLAP));
  return Array.from({ length: count }, (_, at) => round((at * (length - INPUT_SIDE)) / (count - 1)));
}

/** Faces of one input, in pixels of the tile, overlapping ones removed. */
async function candidates(tile: Uint8Array, least: number, network: Detector): Promise<Row[]> {
  const { regressors, logits } = await network(tile);
  const rows: Row[] = [];
  for (let at = 0; at < logits.length; at++) {
    const detection = 1 / (1 + Math.exp(-logits[at]!));
    if (detection < least) continue;
    const values = regressors.subarray(at * 16, at * 16 + 16);
    const [x, y] = [ANCHORS[2 * at]!, ANCHORS[2 * at + 1]!];
    const [width, height] = [values[2]!, values[3]!];
    if (width <= 0 || height <= 0) continue;
    const [left, top] = [x + values[0]! - width / 2, y + values[1]! - height / 2];
    const row = [left, top, left + width, top + height];
    for (let point = 4; point < 16; point += 2) row.push(x + values[point]!, y + values[point + 1]!);
    rows.push([...row, detection]);
  }
  return nonMaximumSuppression(rows);
}

/** Whether a box of a tile holds a whole small face: not cut by a border that is not the picture's own. */
function isWhole(row: Row, corner: [number, number], size: [number, number]): boolean {
  if (Math.max(row[2]! - row[0]!, row[3]! - row[1]!) >= INPUT_SIDE / 2) return false;
  return [0, 1].every(
    (axis) =>
      (corner[axis]! === 0 || row[axis]! > 1) &&
      (corner[axis]! + INPUT_SIDE >= size[axis]! || row[2 + axis]! < INPUT_SIDE - 1),
  );
}

const area = (row: Row) => (row[2]! - row[0]!) * (row[3]! - row[1]!);

/** The area that two boxes share. */
function shared(a: Row, b: Row): number {
  const across = Math.min(a[2]!, b[2]!) - Math.max(a[0]!, b[0]!);
  const down = Math.min(a[3]!, b[3]!) - Math.max(a[1]!, b[1]!);
  return Math.max(across, 0) * Math.max(down, 0);
}

/** The rows to keep, surest first: none whose intersection over union with a surer one exceeds MERGE_IOU. */
function nonMaximumSuppression(rows: Row[]): Row[] {
  const kept: Row[] = [];
  for (const row of [...rows].sort((a, b) => b[16]! - a[16]!)) {
    const free = (other: Row) => {
      const both = shared(row, other);
      return both <= MERGE_IOU * (area(row) + area(other) - both);
    };
    if (kept.every(free)) kept.push(row);
  }
  return kept;
}

/** One row per face out of all levels, largest first: no two that overlap, none that lies inside a larger one. */
function merge(rows: Row[]): Row[] {
  const kept: Row[] = [];
  for (const row of nonMaximumSuppression(rows).sort((a, b) => area(b) - area(a) || a[0]! - b[0]! || a[1]! - b[1]!)) {
    if (kept.every((larger) => shared(row, larger) < MERGE_INSIDE * area(row))) kept.push(row);
  }
  return kept;
}
