/** `npm run screenshots` writes what docs/page.md shows: the page at a desk and on a phone, with sample portraits. */

import { afterAll, beforeAll, test } from "vitest";
import type { Browser } from "playwright-core";
import { ROOT } from "./golden";
import { type Site, host, judged, kept, launch, visit } from "./browser";

const SAMPLES = ["astronaut", "camera", "grace_hopper"].map((name) => `${ROOT}examples/samples/${name}.jpg`);

let browser: Browser;
let site: Site;
beforeAll(async () => {
  site = await host();
  browser = await launch();
});
afterAll(async () => {
  await browser.close();
  await site.close();
});

test.each([
  ["desktop", SAMPLES.slice(0, 2), { viewport: { width: 700, height: 600 } }],
  ["phone", SAMPLES.slice(1, 2), { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true }],
] as const)("docs/page_%s.png", async (name, photos, options) => {
  const context = await browser.newContext({ locale: "en", colorScheme: "light", ...options });
  const { page } = await visit(context, site.address);
  await kept(page);
  await page.setInputFiles("#files", photos);
  await judged(page);
  await page.selectOption("#sort", "best");
  await page.click("summary");
  await page.selectOption("#policy", "enrolment");
  await page.click("summary");
  await page.locator(".picture img").evaluateAll((all) => Promise.all(all.map((image) => (image as HTMLImageElement).decode())));
  await page.screenshot({ path: `${ROOT}docs/page_${name}.png`, fullPage: true });
  await context.close();
});
