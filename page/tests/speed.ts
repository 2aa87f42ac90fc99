/**
 * `npm run speed` prints what a face takes in the page, WebAssembly in this machine's Chromium.
 *
 * ROUNDS times each picture is judged, in turns, after one warm-up: decoding, and finding and scoring its faces with
 * their attributes, in ms, as the page's worker times them.
 */

import { basename } from "node:path";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { expect, test } from "vitest";
import { ROOT } from "./golden";
import { host, judged, launch, visit } from "./browser";

const ROUNDS = Number(process.env.ROUNDS ?? 15);
const PICTURES = ["examples/samples/astronaut.jpg", "examples/samples/grace_hopper.jpg", "tests/golden/pictures/group.jpg"];

const percentile = (values: number[], share: number) =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!;

test("ms per face", async () => {
  const site = await host();
  const browser = await launch();
  const { page } = await visit(await browser.newContext({ locale: "en" }), site.address);
  expect(await page.evaluate(() => document.documentElement.dataset.ready)).toBe("wasm");
  const files = PICTURES.map((path) => ({ name: basename(path), mimeType: "image/jpeg", buffer: readFileSync(ROOT + path) }));
  for (let round = 0; round <= ROUNDS; round++) {
    await page.setInputFiles("#files", files);
    await judged(page);
  }
  const photos = await page.locator(".photo").evaluateAll((all) => all.map((photo) => ({
    name: photo.querySelector("h3")!.textContent,
    faces: photo.querySelectorAll(".faces > li").length,
    decode: Number((photo as HTMLElement).dataset.decodeMs),
    score: Number((photo as HTMLElement).dataset.scoreMs),
    pixels: ["width", "height"].map((side) => photo.querySelector("img")!.getAttribute(side)).join(" × "),
  })));
  const lines = [
    `Chromium ${browser.version()}; ${await page.textContent("#runs")}`,
    `${cpus().length} × ${cpus()[0]!.model}; ${ROUNDS} rounds; ms: median (10th to 90th percentile)`,
    "",
    "| picture | faces | decoding | finding and scoring | the same, a face | all, a face |",
    "|---|---|---|---|---|---|",
  ];
  for (const { name } of files) {
    const seen = photos.filter((photo) => photo.name === name).slice(1);
    const { faces, pixels } = seen[0]!;
    const cell = (of: (photo: (typeof seen)[0]) => number) => {
      const values = seen.map(of);
      return `${percentile(values, 0.5).toFixed(1)} (${percentile(values, 0.1).toFixed(1)} to ${percentile(values, 0.9).toFixed(1)})`;
    };
    const cells = [
      cell(({ decode }) => decode), cell(({ score }) => score), cell(({ score }) => score / faces),
      cell(({ decode, score }) => (decode + score) / faces),
    ];
    lines.push(`| ${name}, ${pixels} | ${faces} | ${cells.join(" | ")} |`);
  }
  console.log(lines.join("\n"));
  await browser.close();
  await site.close();
});
