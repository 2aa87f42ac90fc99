/** efiqa.scorer: pixels become a face's score, its quality, and what speaks against it. */

import card from "../../src/efiqa/models/student.json";
import { type Attributes, type Reason, measure, reasons } from "./attributes";
import { type Box, type Detector, detect, faceCrop } from "./faces";
import { type Pixels, crop, resize, rounded } from "./pixels";

/** The student: pixels of (input_size, input_size, 3) → one score. */
export type Student = (pixels: Uint8Array) => Promise<number>;

export interface Networks {
  detector: Detector;
  student: Student;
}

export interface ScoredFace {
  box: Box;
  /** The detector's confidence, 0 to 1. */
  detection: number;
  /** Nominally 0–1, higher is better. */
  score: number;
  /** The score's percentile in the card's population, 0–100. */
  quality: number;
  attributes: Attributes;
  /** Attributes below 50, worst first. */
  reasons: Reason[];
}

/** Faces whose longer side is below this, in pixels, are scored with a note: mostly resampling is judged. */
export const SMALL_FACE = 32;
const SCORE_DIGITS = 5;

if (card.resize !== "stretch to input_size × input_size, Pillow BILINEAR with antialiasing") {
  throw new Error(`the page does not know the student's resize rule: ${card.resize}`);
}

/** Every face of a picture, largest box first. */
export async function score(image: Pixels, networks: Networks): Promise<ScoredFace[]> {
  const found: ScoredFace[] = [];
  for (const face of await detect(image, networks.detector)) {
    const value = await scoreCrop(crop(image, faceCrop(face.box, image.width, image.height, card.crop_scale)), networks);
    const attributes = measure(image, face);
    const { box, detection } = face;
    const quality = rounded(percentile(value), 1);
    found.push({ box, detection, score: value, quality, attributes, reasons: reasons(attributes) });
  }
  return found;
}

/** The score of a picture that is a face crop already. */
export async function scoreCrop(image: Pixels, networks: Networks): Promise<number> {
  const value = await networks.student(resize(image, card.input_size, card.input_size).data);
  if (!Number.isFinite(value)) throw new Error(`the student gives ${value}, which is no score`);
  return rounded(value, SCORE_DIGITS);
}

/** Share of the card's population that scores at most this, 0–100, linear between its percentiles. */
function percentile(value: number): number {
  const table = card.population.scores;
  if (value <= table[0]!) return 0;
  if (value >= table.at(-1)!) return 100;
  const above = table.findIndex((bound) => bound > value);
  const [low, high] = [table[above - 1]!, table[above]!];
  return above - 1 + (value - low) / (high - low);
}
