/** The built page in headless Chromium, served from this machine, with every request written down. */

import { existsSync, readFileSync, statSync } from "node:fs";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { type Browser, type BrowserContext, type Page, chromium } from "playwright-core";
import { ROOT } from "./golden";

const BUILT = `${ROOT}src/efiqa/page`;
const TYPES: Record<string, string> = {
  ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
  ".wasm": "application/wasm", ".onnx": "application/octet-stream",
};
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export interface Site {
  address: string;
  close(): Promise<void>;
}

/** A host of static files; isolated or not, as hosts are. `score` answers POST v1/score. */
export async function host(options: { isolated?: boolean; score?: () => [number, unknown] } = {}): Promise<Site> {
  const server: Server = createServer((request, response) => {
    const path = new URL(request.url!, "http://page").pathname;
    const headers = options.isolated === false ? {} : ISOLATED;
    if (request.method === "POST" && path === "/v1/score" && options.score) {
      const [status, answer] = options.score();
      request.resume().on("end", () => {
        response.writeHead(status, { ...headers, "Content-Type": "application/json", "Retry-After": "0" });
        response.end(JSON.stringify(answer));
      });
      return;
    }
    const file = join(BUILT, path.endsWith("/") ? `${path}index.html` : path);
    if (!file.startsWith(BUILT) || !existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404, headers).end();
      return;
    }
    response.writeHead(200, { ...headers, "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" });
    response.end(readFileSync(file));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return { address: `http://127.0.0.1:${port}/`, close };
}

export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

export async function launch(...more: string[]): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage", ...more] });
}

export interface Visit {
  page: Page;
  context: BrowserContext;
  /** Addresses of every request so far, of the page and its workers, `blob:` and `data:` aside. */
  requests: string[];
  /** What the console said as an error, and errors that nobody caught. */
  errors: string[];
}

/** Open the page and wait until it can judge, or until it says why not. */
export async function visit(context: BrowserContext, address: string): Promise<Visit> {
  context.setDefaultTimeout(240_000); // a busy machine is no wrong answer
  const page = await context.newPage();
  const requests: string[] = [];
  const errors: string[] = [];
  context.on("request", (request) => {
    if (!/^(blob|data):/.test(request.url())) requests.push(`${request.method()} ${request.url()}`);
  });
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(address);
  await ready(page);
  return { page, context, requests, errors };
}

export async function ready(page: Page): Promise<void> {
  await page.waitForFunction(
    () => document.documentElement.dataset.ready || !document.getElementById("notice")!.hidden,
  );
}

/** Kept for offline use by now, so that no request of the page's own is under way. */
export async function kept(page: Page): Promise<void> {
  await page.waitForFunction(() => document.documentElement.dataset.offline);
}

/** Wait until what was added has been judged. */
export async function judged(page: Page): Promise<void> {
  await page.waitForFunction(
    () => !document.documentElement.dataset.working && document.querySelectorAll(".photo").length > 0,
  );
}
