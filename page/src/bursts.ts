/** Photos of one moment: taken within seconds of each other, of one size, and alike. */

export interface Shot {
  /** When the file was last changed, ms; a camera writes it at once. */
  time: number;
  width: number;
  height: number;
  likeness: string;
  score: number;
}

export interface Place {
  /** How many are alike. */
  count: number;
  best: boolean;
}

const GAP_MS = 10_000;
/** Of 64 bits of likeness, this many may differ. */
const DIFFERENT_BITS = 10;

/** For each shot that is one of several alike: of how many, and whether it is the best. */
export function bursts<T extends Shot>(shots: T[]): Map<T, Place> {
  const groups: T[][] = [];
  for (const shot of [...shots].sort((a, b) => a.time - b.time)) {
    const group = groups.find((each) => areAlike(each.at(-1)!, shot));
    if (group) group.push(shot);
    else groups.push([shot]);
  }
  const places = new Map<T, Place>();
  for (const group of groups) {
    if (group.length < 2) continue;
    const best = group.reduce((a, b) => (b.score > a.score ? b : a));
    for (const shot of group) places.set(shot, { count: group.length, best: shot === best });
  }
  return places;
}

function areAlike(a: Shot, b: Shot): boolean {
  if (a.width !== b.width || a.height !== b.height || Math.abs(a.time - b.time) > GAP_MS) return false;
  let different = 0;
  for (let at = 0; at < a.likeness.length; at++) if (a.likeness[at] !== b.likeness[at]) different++;
  return different <= DIFFERENT_BITS;
}
