/** What to say to a person before the camera, and when to take the picture. */

import { POLICIES, type Policy, decide } from "./policy";
import type { Judged } from "./worker";

/** Those a person can do something about at once, most useful first. */
const HELP = ["framing", "resolution", "dark", "bright", "sharpness"] as const;
export type Advice = "none" | "many" | (typeof HELP)[number] | "quality" | "hold";
export type Level = "bad" | "near" | "good";

/** A second face counts where its box has at least this share of the first one's area; smaller ones pass behind. */
const SECOND_FACE = 0.25;

/** What to say of a frame. The policy is the kiosk's: a camera that can ask for another picture at once. */
export function advise({ faces }: Judged, policy: Policy = POLICIES.kiosk): { advice: Advice; level: Level } {
  const [face, second] = faces;
  if (!face) return { advice: "none", level: "bad" };
  const area = (of: { box: { width: number; height: number } }) => of.box.width * of.box.height;
  if (second && area(second) >= SECOND_FACE * area(face)) return { advice: "many", level: "bad" };
  const [decision, why] = decide(policy, face, face.attributes);
  if (decision === "accept") return { advice: "hold", level: "good" };
  const help = HELP.find((reason) => (why as string[]).includes(reason));
  return { advice: help ?? "quality", level: why.length > 1 ? "bad" : "near" };
}

/** A picture is taken once this long, and this many frames, were good without a break. */
const HOLD_MS = 1000;
const HOLD_FRAMES = 3;

export class Hold {
  #since = 0;
  #frames = 0;
  #best = -Infinity;

  /** How far the hold is, 0 to 1, and whether this frame is its best so far; `score` is null for one not good. */
  push(score: number | null, now: number): { progress: number; isBest: boolean } {
    if (score === null) {
      this.#frames = 0;
      this.#best = -Infinity;
      return { progress: 0, isBest: false };
    }
    if (this.#frames++ === 0) this.#since = now;
    const isBest = score > this.#best;
    this.#best = Math.max(score, this.#best);
    const progress = Math.min(1, (now - this.#since) / HOLD_MS, this.#frames / HOLD_FRAMES);
    return { progress, isBest };
  }
}
