import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import axe from "axe-core";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import texts from "../src/en.json";
import { ATTRIBUTES } from "../src/attributes";
import { ROOT, golden } from "./golden";
import { type Site, type Visit, host, judged, kept, launch, ready, visit } from "./browser";

const SAMPLES = `${ROOT}examples/samples`;
const PORTRAIT = `${SAMPLES}/grace_hopper.jpg`;
/** What the command wrote down is kept for Python's suite, which reads it too. */
const OUT = process.env.PAGE_OUT ?? mkdtempSync(join(tmpdir(), "page-"));

const ENGLISH = { locale: "en" };

let browser: Browser;
/** Most visits share it, as one person's would: the runtime is loaded and compiled once. */
let shared: BrowserContext;
let site: Site;
beforeAll(async () => {
  mkdirSync(OUT, { recursive: true });
  site = await host();
  browser = await launch();
  shared = await browser.newContext(ENGLISH);
});
afterAll(async () => {
  await browser.close();
  await site.close();
});

/** `options` make it the first visit of a browser that is set up so. */
async function onVisit(use: (visit: Visit) => Promise<void>, address = site.address, options?: object): Promise<void> {
  const context = options ? await browser.newContext({ ...ENGLISH, ...options }) : shared;
  const seen = await visit(context, address);
  try {
    await use(seen);
    expect(seen.errors).toEqual([]);
  } finally {
    await seen.page.close();
    if (options) await context.close();
  }
}

const choose = (page: Page, id: string, value: string) => page.$eval(`#${id}`, (select, to) => {
  (select as HTMLSelectElement).value = to;
  select.dispatchEvent(new Event("change"));
}, value);

async function csv(page: Page, name: string): Promise<Record<string, string>[]> {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#csv")]);
  expect(download.suggestedFilename()).toBe("scores.csv");
  await download.saveAs(join(OUT, name));
  const [head, ...lines] = readFileSync(join(OUT, name), "utf-8").trimEnd().split("\n");
  const columns = head!.split(",");
  return lines.map((line) => {
    const cells = (line.match(/("([^"]|"")*"|[^,]*)(,|$)/g) ?? []).map((cell) => cell.replace(/,$/, "").replace(/^"|"$/g, ""));
    return Object.fromEntries(columns.map((column, at) => [column, cells[at] ?? ""]));
  });
}

test("every golden picture has Python's boxes, score, reasons and decision, and nothing leaves the page", async () => {
  await onVisit(async ({ page, requests }) => {
    await kept(page);
    const before = requests.length;
    const names = Object.keys(golden.pictures);
    await page.setInputFiles("#files", names.map((name) => ROOT + name));
    await judged(page);
    const rows = await csv(page, "scores.csv");
    expect(requests.slice(before)).toEqual([]);
    for (const name of names) {
      const expected = golden.pictures[name]!.rows;
      const found = rows.filter((row) => row.image === basename(name));
      expect(found.length, name).toBe(expected.length);
      for (const [at, row] of found.entries()) {
        const known = expected[at]!;
        const about = `${name}, face ${at}`;
        expect(row.status, about).toBe(known.status);
        expect(row.decision, about).toBe(known.decisions.profile![0]);
        expect(row.reasons, about).toBe(known.decisions.profile![1].join(";"));
        if (known.status !== "ok") continue;
        expect(row.message, about).toBe(known.message);
        expect(Math.abs(Number(row.score) - known.score!), `${about}: score`).toBeLessThan(0.01);
        expect(Math.abs(Number(row.quality) - known.quality!), `${about}: quality`).toBeLessThan(1);
        for (const side of ["x", "y", "width", "height"] as const) {
          expect(Math.abs(Number(row[side]) - known[side]!), `${about}: ${side}`).toBeLessThan(0.25);
        }
        for (const attribute of ATTRIBUTES) {
          if (known[attribute] === null) expect(row[attribute], `${about}: ${attribute}`).toBe("");
          else expect(Math.abs(Number(row[attribute]) - known[attribute]!), `${about}: ${attribute}`).toBeLessThan(0.5);
        }
      }
    }
    const largest = names.flatMap((name) => golden.pictures[name]!.rows.map((known) => {
      const row = rows.find((each) => each.image === basename(name) && Number(each.face) === known.face)!;
      return known.score === null ? 0 : Math.abs(Number(row.score) - known.score);
    })).reduce((a, b) => Math.max(a, b));
    console.log(`largest difference of a score: ${largest.toFixed(5)}`);
  });
});

/** Put a file into a drop or a paste as a browser would. */
async function give(page: Page, kind: "drop" | "paste", path: string): Promise<void> {
  const bytes = readFileSync(path).toString("base64");
  await page.evaluate(([event, name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(text!), (letter) => letter.charCodeAt(0))], name!));
    const made = event === "drop"
      ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
      : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
    document.getElementById("drop")!.dispatchEvent(made);
  }, [kind, basename(path), bytes]);
}

test.each(["drop", "paste"] as const)("a photo that is given by %s gets its box, its number and a verdict", async (kind) => {
  await onVisit(async ({ page }) => {
    await give(page, kind, PORTRAIT);
    await judged(page);
    const known = golden.pictures["examples/samples/grace_hopper.jpg"]!.rows[0]!;
    const face = page.locator(".faces > li");
    expect(Number(await face.getAttribute("data-score"))).toBeCloseTo(known.score!, 2);
    expect(await face.textContent()).toContain(`${known.quality!.toFixed(0)} of 100`);
    expect(await face.textContent()).toContain(texts["decision.accept"]);
    expect(await face.textContent()).toContain(texts.noAdvice);
    const box = page.locator(".picture g rect").first();
    for (const side of ["x", "y", "width", "height"] as const) {
      expect(Number(await box.getAttribute(side))).toBeCloseTo(known[side]!, 0);
    }
    expect(await page.textContent("#status")).toBe("One photo judged. Faces: 1.");
  });
});

test("what is wrong and what to do stands beside a face", async () => {
  await onVisit(async ({ page }) => {
    await page.setInputFiles("#files", `${SAMPLES}/camera.jpg`);
    await judged(page);
    const told = await page.textContent(".faces > li");
    expect(told).toContain("Uneven light: turn to the light, so that both halves of the face get as much");
    expect(told).toContain("Few pixels: move closer");
    await page.setInputFiles("#files", PORTRAIT);
    await page.waitForFunction(() => document.querySelectorAll('.photo[data-status="ok"]').length === 2);
    await judged(page);
    const todo = (count: number) => `2 photos judged. Faces: 2. Photos with something to do: ${count}.`;
    expect(await page.textContent("#status")).toBe(todo(0));
    await choose(page, "policy", "enrolment");
    expect(await page.locator(".verdict").first().textContent()).toBe(texts["decision.review"]);
    expect(await page.textContent("#status")).toBe(todo(1));
  });
});

test("a sheet is ordered, bursts have a best, and a closer look has every measure", async () => {
  await onVisit(async ({ page }) => {
    const alike = [2, 3, 4, 5].map((at) => `tests/golden/pictures/orientation_${at}.jpg`);
    const scored = (name: string) => golden.pictures[name]!.rows[0]!.score!;
    const best = [...alike].sort((one, other) => scored(other) - scored(one)).map((name) => basename(name));
    const files = [...alike.map((name) => ROOT + name), PORTRAIT].map((path) => ({ name: basename(path), mimeType: "image/jpeg", buffer: readFileSync(path) }));
    await page.setInputFiles("#files", files);
    await judged(page);
    await choose(page, "sort", "best");
    const order = await page.locator(".photo h3").allTextContents();
    expect(order).toEqual(["grace_hopper.jpg", ...best]);
    expect(await page.locator(".best").allTextContents()).toEqual(["Best of 4 alike"]);
    expect(await page.locator(".photo", { has: page.locator(".best") }).locator("h3").textContent()).toBe(best[0]);
    await choose(page, "show", "best");
    expect(await page.locator(".photo:visible").count()).toBe(2);
    await page.locator(".open").first().focus();
    await page.keyboard.press("Enter");
    expect(await page.locator("dialog[open] tr").count()).toBe(9);
    await page.keyboard.press("Escape");
    expect(await page.locator("dialog[open]").count()).toBe(0);
  });
});

test("what is no picture, damaged, empty or without a face is told in a sentence, and the others are judged", async () => {
  await onVisit(async ({ page }) => {
    const names = ["text.jpg", "cut.jpg", "empty.png", "nobody.png"].map((name) => `${ROOT}tests/golden/pictures/${name}`);
    const bomb = Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "latin1"), Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, 8, 2, 0, 0, 0])]);
    const given = [...names, PORTRAIT].map((path) => ({ name: basename(path), mimeType: "image/jpeg", buffer: readFileSync(path) }));
    await page.setInputFiles("#files", [{ name: "bomb.png", mimeType: "image/png", buffer: bomb }, ...given]);
    await judged(page);
    const told = await page.locator(".photo > p").allTextContents();
    expect(told).toEqual(["too_large", "not_an_image", "corrupt", "empty", "no_face"].map((name) => texts[`status.${name}` as keyof typeof texts]));
    expect(await page.locator(".faces > li").count()).toBe(1);
  });
});

test("the page is used again without a connection", async () => {
  await onVisit(async ({ page, context }) => {
    await kept(page);
    expect(await page.textContent("#runs")).toContain(texts["runs.offline"]);
    await context.setOffline(true);
    await page.reload();
    await ready(page);
    await page.setInputFiles("#files", PORTRAIT);
    await judged(page);
    expect(await page.locator(".faces > li").count()).toBe(1);
  }, site.address, {});
});

test("a host that isolates nothing gives one thread at first, and all after a reload", async () => {
  const plain = await host({ isolated: false });
  await onVisit(async ({ page }) => {
    expect(await page.textContent("#runs")).toContain(texts["runs.noThreads"]);
    await page.setInputFiles("#files", PORTRAIT);
    await judged(page);
    expect(Number(await page.locator(".faces > li").getAttribute("data-score"))).toBeCloseTo(golden.pictures["examples/samples/grace_hopper.jpg"]!.rows[0]!.score!, 2);
    await kept(page);
    await page.reload();
    await ready(page);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
  }, plain.address);
  await plain.close();
});

const NOISE = `{
  const read = OffscreenCanvasRenderingContext2D.prototype.getImageData;
  OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...place) {
    const found = read.apply(this, place);
    found.data[5] ^= 1;
    return found;
  };
}`;

test.each([
  ["no_wasm", "delete self.WebAssembly;"],
  ["no_canvas", "delete self.OffscreenCanvas;"],
  ["changed_pixels", NOISE],
  ["no_models", "self.fetch = () => Promise.reject(new TypeError('no connection'));"],
] as const)("a browser with the trouble %s is told so, and what to do", async (trouble, before) => {
  const context = await browser.newContext({ serviceWorkers: "block" });
  await context.route("**/worker-*.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${before}\n${await response.text()}` });
  });
  const page = await context.newPage();
  await page.goto(site.address);
  await ready(page);
  expect(await page.textContent("#notice p")).toBe(texts[`trouble.${trouble}`]);
  await page.setInputFiles("#files", PORTRAIT);
  expect(await page.textContent(".photo p")).toBe(texts.waiting);
  await context.close();
});

test("asked for WebGPU where there is none, the page goes on with WebAssembly and says so", async () => {
  await onVisit(async ({ page }) => {
    await choose(page, "runtime", "webgpu");
    await page.waitForFunction(() => document.documentElement.dataset.ready === "wasm");
    expect(await page.textContent("#runs")).toContain(texts["runs.noGpu"]);
  });
});

test("photos go to the server when the user chose so, and only then", async () => {
  const answer = {
    images: [{ status: "ok", faces: [{ box: { x: 10, y: 20, width: 100, height: 100 }, detection: 0.9, score: 0.25, quality: 12.5, attributes: null, reasons: null }] }],
  };
  const answers: [number, unknown][] = [[429, {}], [200, answer], [413, { error: { code: "too_large", message: "too many bytes", hint: "send less" } }]];
  const serving = await host({ score: () => answers.shift()! });
  await onVisit(async ({ page, requests, errors }) => {
    await choose(page, "where", "server");
    expect(await page.textContent("#promise")).toBe(texts["promise.server"]);
    await page.setInputFiles("#files", PORTRAIT);
    await judged(page);
    expect(await page.locator(".faces > li").getAttribute("data-score")).toBe("0.25");
    expect(requests.filter((request) => request.startsWith("POST")).length).toBe(2);
    await page.setInputFiles("#files", `${SAMPLES}/astronaut.jpg`);
    await page.waitForFunction(() => document.querySelectorAll('[data-status="server"]').length === 1);
    expect(await page.locator('[data-status="server"] p').textContent()).toContain("too many bytes; send less");
    errors.length = 0; // the console names the two refusals
  }, serving.address);
  await serving.close();
});

test("there is no violation of WCAG 2.2 AA, light or dark, empty or full", async () => {
  await onVisit(async ({ page }) => {
    await page.evaluate(axe.source);
    const violations = async (runOnly: string[]) => {
      const found = await page.evaluate((rules) => (window as never as { axe: typeof axe }).axe.run({ runOnly: rules }), runOnly);
      return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
    };
    /** All rules in the light; in the dark the one that may have another answer. */
    const found = async () => {
      const light = await violations(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]);
      await page.emulateMedia({ colorScheme: "dark" });
      const dark = await violations(["color-contrast"]);
      await page.emulateMedia({ colorScheme: "light" });
      return [...light, ...dark];
    };
    expect(await found()).toEqual([]);
    await page.click("summary");
    await page.setInputFiles("#files", [`${SAMPLES}/camera.jpg`, `${ROOT}tests/golden/pictures/group.jpg`]);
    await judged(page);
    expect(await found()).toEqual([]);
    await page.locator(".open").first().click();
    expect(await found()).toEqual([]);
  }, site.address, { colorScheme: "light", bypassCSP: true });
});

test("on a phone nothing is wider than the screen", async () => {
  await onVisit(async ({ page }) => {
    await page.setInputFiles("#files", [`${SAMPLES}/camera.jpg`, PORTRAIT]);
    await judged(page);
    await page.click("summary");
    await choose(page, "where", "server"); // which shows all options that there are
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    const heights = await page.locator("button:visible, .button:visible").evaluateAll((all) => all.map((each) => each.getBoundingClientRect().height));
    expect(Math.min(...heights)).toBeGreaterThanOrEqual(44);
  }, site.address, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
});

/** A film for Chromium's camera, over and over: nobody, then a face in the dark, then the face; made by the browser itself. */
async function film(): Promise<string> {
  const frames = await cut();
  const path = join(OUT, "film.mjpeg");
  // Each scene is as long as some frames take to judge here, at the 30 frames a second that Chromium shows.
  const scene = Math.round(Math.min(600, Math.max(90, (6 * 30 * (await frameMs())) / 1000)));
  const lengths = [scene, scene, Math.max(240, 2 * scene)];
  writeFileSync(path, Buffer.concat(frames.flatMap((frame, at) => Array.from({ length: lengths[at]! }, () => frame))));
  return path;
}

/** What a portrait takes on this machine now, once everything is warm. */
async function frameMs(): Promise<number> {
  const { page } = await visit(shared, site.address);
  await page.setInputFiles("#files", [PORTRAIT, PORTRAIT]);
  await judged(page);
  const last = await page.locator(".photo").last().evaluate((photo) => ({ ...(photo as HTMLElement).dataset }));
  await page.close();
  return Number(last.decodeMs) + Number(last.scoreMs);
}

/** Its three scenes, a picture each. */
async function cut(): Promise<Buffer[]> {
  const page = await browser.newPage();
  const frames = await page.evaluate(async (portrait) => {
    const image = new Image();
    image.src = `data:image/jpeg;base64,${portrait}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [640, 480];
    const context = canvas.getContext("2d")!;
    return [0, 0.15, 1].map((light) => {
      context.fillStyle = "#8a8f8c";
      context.fillRect(0, 0, 640, 480);
      context.filter = `brightness(${light})`;
      if (light) context.drawImage(image, 115, 0, 410, 480);
      context.filter = "none";
      return canvas.toDataURL("image/jpeg", 0.92).split(",")[1]!;
    });
  }, readFileSync(PORTRAIT).toString("base64"));
  await page.close();
  return frames.map((frame) => Buffer.from(frame, "base64"));
}

let filmed: Browser;
beforeAll(async () => {
  filmed = await launch(
    "--use-fake-device-for-media-stream", "--deny-permission-prompts", `--use-file-for-fake-video-capture=${await film()}`,
  );
});
afterAll(() => filmed.close());

test("the coach says what helps, and takes the picture by itself; nothing leaves the page", async () => {
  const context = await filmed.newContext({ ...ENGLISH, permissions: ["camera"] });
  const { page, requests, errors } = await visit(context, site.address);
  await kept(page);
  const before = requests.length;
  await page.evaluate(() => {
    const said = new Set<string>();
    Object.assign(window, { said });
    const advice = document.getElementById("advice")!;
    new MutationObserver(() => said.add(`${document.getElementById("stage")!.dataset.level}: ${advice.textContent}`))
      .observe(advice, { childList: true });
  });
  /** However long a frame takes: the film comes again. */
  const says = (level: string, key: keyof typeof texts) => page.waitForFunction(
    (words) => (window as never as { said: Set<string> }).said.has(words), `${level}: ${texts[key]}`,
  );
  await page.evaluate(() => ((document.getElementById("auto") as HTMLInputElement).checked = false));
  await page.click("#camera");
  await says("bad", "coach.none");
  await says("near", "coach.dark");
  await says("good", "coach.hold");
  expect(await page.locator(".photo").count()).toBe(0);
  await page.check("#auto");
  await page.waitForSelector('.photo[data-status="ok"]');
  await says("good", "coach.taken");
  expect(await page.locator(".photo h3").allTextContents()).toEqual(["camera 1.png"]);
  expect(await page.textContent(".verdict")).toBe(texts["decision.accept"]);
  expect(await page.isChecked("#auto")).toBe(false);
  await page.click("#take");
  await page.waitForFunction(() => document.querySelectorAll('.photo:not([data-status="waiting"])').length === 2);
  await page.click("#stop");
  expect(await page.isVisible("#coach")).toBe(false);
  expect(requests.slice(before)).toEqual([]);
  expect(errors).toEqual([]);
  await context.close();
});

test("without a camera, and with one refused, the page says what to do, and photos are judged all the same", async () => {
  for (const [where, key] of [[browser, "camera.missing"], [filmed, "camera.refused"]] as const) {
    const context = await where.newContext(ENGLISH);
    const { page } = await visit(context, site.address);
    await page.click("#camera");
    await page.waitForSelector("#notice:visible");
    expect(await page.textContent("#notice p")).toBe(texts[key]);
    expect(await page.locator("#notice button").textContent()).toBe(texts.again);
    await page.setInputFiles("#files", PORTRAIT);
    await judged(page);
    expect(await page.locator(".faces > li").count()).toBe(1);
    await context.close();
  }
});

const SERVICE = process.env.PAGE_SERVICE;
test.skipIf(!SERVICE)("efiqa serve --page: the page it serves, and the server it asks, give one number", async () => {
  await onVisit(async ({ page, requests }) => {
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await kept(page);
    const before = requests.length;
    const known = golden.pictures["examples/samples/grace_hopper.jpg"]!.rows[0]!;
    const scores = () => page.locator(".faces > li").evaluateAll((all) => all.map((each) => Number((each as HTMLElement).dataset.score)));
    await page.setInputFiles("#files", PORTRAIT);
    await judged(page);
    expect(requests.slice(before)).toEqual([]);
    await choose(page, "where", "server");
    await page.setInputFiles("#files", PORTRAIT);
    await judged(page);
    expect(requests.slice(before)).toEqual([`POST ${SERVICE}/v1/score`]);
    const found = await scores();
    expect(found.length).toBe(2);
    for (const score of found) expect(Math.abs(score - known.score!)).toBeLessThan(0.01);
  }, `${SERVICE}/`, {});
});
