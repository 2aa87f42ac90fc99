/** The server of this page judges a photo, where the user chose so: POST v1/score of efiqa serve. */

import { ATTRIBUTES, type Attributes, reasons } from "./attributes";
import type { ScoredFace } from "./scorer";

export class Refused extends Error {}

interface Answer {
  images: {
    status: string;
    faces: {
      box: ScoredFace["box"];
      detection: number;
      score: number;
      quality: number | null;
      attributes: Record<string, number | null> | null;
      reasons: string[] | null;
    }[];
  }[];
}

const TRIES = 4;

/** Status and faces of one photo. Raises Refused with the server's words where it cannot judge it now. */
export async function ask(file: Blob, key: string): Promise<{ status: string; faces: ScoredFace[] }> {
  for (let attempt = 1; ; attempt++) {
    let response: Response;
    try {
      const headers: HeadersInit = { "Content-Type": "application/octet-stream" };
      if (key) headers.Authorization = `Bearer ${key}`;
      response = await fetch("v1/score", { method: "POST", body: file, headers });
    } catch (error) {
      throw new Refused(String(error instanceof Error ? error.message : error));
    }
    if (response.ok) return faces(await response.json());
    if ((response.status === 429 || response.status === 503) && attempt < TRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, Math.min(seconds, 30) * 1000));
      continue;
    }
    const { error } = await response.json().catch(() => ({ error: null }));
    throw new Refused([error?.message ?? response.status, error?.hint].filter(Boolean).join("; "));
  }
}

function faces({ images }: Answer): { status: string; faces: ScoredFace[] } {
  const [{ status, faces: found }] = images as [Answer["images"][0]];
  const scored = found.map(({ box, detection, score, quality, attributes, reasons: why }) => {
    const known = Object.fromEntries(ATTRIBUTES.map((name) => [name, attributes?.[name] ?? null]));
    const measured = { ...known, overexposed: why?.includes("bright") ?? false } as Attributes;
    return { box, detection, score, quality: quality ?? 100 * score, attributes: measured, reasons: reasons(measured) };
  });
  return { status, faces: scored };
}
