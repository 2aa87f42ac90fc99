import { expect, test } from "vitest";
import { faceCrop } from "../src/faces";
import { crop, resize, round, rounded } from "../src/pixels";
import { digest, golden, noise } from "./golden";

test.each(golden.resizes)("%i × %i to %i × %i, gap %s, is Pillow's picture to the last bit", (width, height, ...to) => {
  const [across, down, gap, expected] = to;
  expect(digest(resize(noise(width, height), across, down, gap ?? undefined))).toBe(expected);
});

test("a crop and its resizing are the package's", () => {
  expect(digest(resize(crop(noise(400, 300), [37, 21, 300, 284]), 128, 128))).toBe(golden.part);
});

test.each(golden.crops)("the square around %f, %f, %f, %f is the package's", (x, y, width, height, expected) => {
  expect(faceCrop({ x, y, width, height }, 240, 135, 2)).toEqual(expected);
});

test("a half is rounded to the even neighbour", () => {
  expect([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, 2.6].map(round)).toEqual([0, 2, 2, 0, -2, 2, 3]);
  expect(rounded(0.15, 1)).toBe(0.1); // 0.15 lies below its name
});
