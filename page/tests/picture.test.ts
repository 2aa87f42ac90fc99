import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bursts } from "../src/bursts";
import { Hold, advise } from "../src/coach";
import { toCsv } from "../src/csv";
import { kindOf, sizeOf } from "../src/picture";
import { golden, ROOT } from "./golden";

const LYING = [5, 6, 7, 8].map((orientation) => `tests/golden/pictures/orientation_${orientation}.jpg`);

test.each(Object.entries(golden.pictures).filter(([, { digest }]) => digest))("%s has its size in its header", (name, known) => {
  const head = new Uint8Array(readFileSync(ROOT + name));
  const size = LYING.includes(name) ? [known.height, known.width] : [known.width, known.height];
  expect(sizeOf(kindOf(head)!, head)).toEqual(size);
});

test("what is no picture has no kind, and a header that ends early no size", () => {
  expect(kindOf(new TextEncoder().encode("This is no picture."))).toBe(null);
  expect(kindOf(new Uint8Array())).toBe(null);
  expect(sizeOf("png", new Uint8Array(9))).toBe(null);
  expect(sizeOf("jpeg", new Uint8Array([0xff, 0xd8, 0xff]))).toBe(null);
});

const shot = (time: number, score: number, likeness = "0".repeat(64)) => ({ time, score, likeness, width: 4, height: 3 });

test("photos of one moment that look alike are a burst, with one best", () => {
  const [first, second, third] = [shot(0, 0.4), shot(2000, 0.6), shot(4000, 0.5)];
  const later = shot(60_000, 0.9);
  const other = shot(3000, 0.9, "1".repeat(64));
  const places = bursts([later, third, first, other, second]);
  expect([first, second, third].map((each) => places.get(each))).toEqual([
    { count: 3, best: false }, { count: 3, best: true }, { count: 3, best: false },
  ]);
  expect(places.has(later) || places.has(other)).toBe(false);
});

test("the picture is held once a second and three frames were good without a break", () => {
  const hold = new Hold();
  expect(hold.push(0.5, 0)).toEqual({ progress: 0, isBest: true });
  expect(hold.push(0.4, 2000)).toEqual({ progress: 2 / 3, isBest: false });
  expect(hold.push(null, 2100).progress).toBe(0);
  for (const [at, score] of [0.3, 0.6, 0.5].entries()) expect(hold.push(score, 3000 + at * 400).isBest).toBe(at < 2);
  expect(hold.push(0.6, 4000)).toEqual({ progress: 1, isBest: false });
});

const attributes = {
  resolution: 90, sharpness: 90, exposure: 90, contrast: 90, lighting: 90, noise: 90, colour: 90, framing: 90, tilt: 90,
  overexposed: false,
};
const face = (quality: number, changed = {}, width = 200) => ({
  box: { x: 0, y: 0, width, height: width }, detection: 0.9, score: quality / 100, quality, reasons: [],
  attributes: { ...attributes, ...changed },
});
const frame = (...faces: ReturnType<typeof face>[]) => ({ width: 640, height: 480, faces, decodeMs: 0, scoreMs: 0 });

test.each([
  [frame(), "none", "bad"],
  [frame(face(80), face(80, {}, 150)), "many", "bad"],
  [frame(face(80), face(80, {}, 60)), "hold", "good"], // somebody far behind
  [frame(face(80, { exposure: 10 })), "dark", "near"],
  [frame(face(80, { exposure: 10, overexposed: true })), "bright", "near"],
  [frame(face(80, { framing: 10, sharpness: 5 })), "framing", "bad"],
  [frame(face(5, { sharpness: 45 })), "sharpness", "bad"],
  [frame(face(5)), "quality", "near"],
  [frame(face(80, { colour: 0, noise: 0 })), "hold", "good"], // what a kiosk does not ask for
])("the coach says what helps most", (seen, advice, level) => {
  expect(advise(seen)).toEqual({ advice, level });
});

test("CSV quotes what needs it and leaves unknown cells empty", () => {
  const [head, row] = toCsv([{ image: 'a "b",c.jpg', face: 0, status: "ok", score: 0.5, tilt: null }]).split("\n");
  expect(head).toMatch(/^image,face,status,score,quality,x,y,width,height,detection,message,decision,reasons,/);
  expect(row).toBe(`"a ""b"",c.jpg",0,ok,0.5${",".repeat(18)}`);
});
