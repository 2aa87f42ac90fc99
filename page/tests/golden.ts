/** What the Python package makes of the golden pictures; see tests/golden/make.py. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Attribute } from "../src/attributes";
import type { Pixels } from "../src/pixels";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

export interface GoldenRow extends Record<Attribute, number | null> {
  image: string;
  face: number;
  status: string;
  score: number | null;
  quality: number | null;
  x: number | null;
  y: number | null;
  width: number | null;
  height: number | null;
  detection: number | null;
  message: string;
  reasons: string | null;
  decisions: Record<string, [string, string[]]>;
}

interface Golden {
  pictures: Record<string, { rows: GoldenRow[]; width?: number; height?: number; digest?: string }>;
  resizes: [number, number, number, number, number | null, string][];
  crops: [number, number, number, number, [number, number, number, number]][];
  part: string;
}

export const golden: Golden = JSON.parse(readFileSync(`${ROOT}tests/golden/golden.json`, "utf-8"));

export const digest = (image: Pixels) => createHash("sha256").update(image.data).digest("hex");

/** The same picture as make.py's noise. */
export function noise(width: number, height: number): Pixels {
  const data = new Uint8Array(width * height * 3);
  let state = 1;
  for (let at = 0; at < data.length; at++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    data[at] = state >> 23;
  }
  return { width, height, data };
}
