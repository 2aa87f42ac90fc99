/** The page: photos in, a sheet of judged photos out. */

import card from "../../src/efiqa/models/student.json";
import { bursts } from "./bursts";
import { Camera } from "./camera";
import { toCsv } from "./csv";
import { choices, element, make } from "./elements";
import { Engine } from "./engine";
import { keepOffline } from "./offline";
import { type Photo, details, hasTodo, newPhoto, render, rows } from "./photo";
import type { PolicyName } from "./policy";
import type { Backend } from "./runtime";
import { ask } from "./server";
import { type Key, fill, say } from "./texts";

fill(document);
const list = element("photos");
const photos: Photo[] = [];
let engine = new Engine();
let usable: Promise<boolean> = Promise.resolve(false);
let shots = 0;

const named = <Name extends string>(group: string, names: Name[]) =>
  Object.fromEntries(names.map((name) => [name, say(`${group}.${name}` as Key)]));
const policy = choices("policy", named("policy", ["profile", "enrolment", "kiosk", "curation"]), "profile");
const where = choices("where", named("where", ["device", "server"]), "device");
const runtime = choices("runtime", named("runtime", ["auto", "webgpu", "wasm"]), "auto");
const sort = choices("sort", named("sort", ["added", "best", "worst", "name"]), "added");
const show = choices("show", named("show", ["all", "todo", "best"]), "all");
const chosenPolicy = () => policy.value as PolicyName;

/** Say what is wrong, and offer the way on. */
function notice(text: string, again?: () => void): void {
  const place = element("notice");
  place.replaceChildren(make("p", { textContent: text }));
  if (again) {
    const button = make("button", { type: "button", textContent: say("again") });
    button.onclick = () => {
      place.hidden = true;
      again();
    };
    place.append(button);
  }
  place.hidden = false;
}

const status = (key: Key, values = {}) => (element("status").textContent = say(key, values));

async function start(): Promise<boolean> {
  status("starting");
  const started = await engine.ask("start", runtime.value as Backend | "auto").catch(() => ({ trouble: "no_models" as const }));
  if ("trouble" in started) {
    element("status").textContent = "";
    notice(say(`trouble.${started.trouble}`), restart);
    return false;
  }
  element("notice").hidden = true;
  const said = [say(`runs.${started.backend}`, { threads: started.threads })];
  if (started.backend === "wasm" && runtime.value !== "wasm") said.push(say("runs.noGpu"));
  if (!crossOriginIsolated) said.push(say("runs.noThreads"));
  element("runs").textContent = said.join(" ");
  void keepOffline(started.backend).then((kept) => {
    element("runs").textContent = [...said, say(kept ? "runs.offline" : "runs.notOffline")].join(" ");
    document.documentElement.dataset.offline = String(kept);
  });
  status("ready");
  document.documentElement.dataset.ready = started.backend;
  return true;
}

/** Another worker, in the place of one that stopped or that another runtime shall follow. */
function restart(): void {
  engine.stop();
  engine = new Engine();
  delete document.documentElement.dataset.ready;
  usable = start();
}

/** The sheet as chosen: bursts marked, ordered, the rest hidden. */
function arrange(): void {
  const scored = photos.filter((photo) => photo.status === "ok").map((photo) => ({
    photo, time: photo.file.lastModified, width: photo.width, height: photo.height,
    likeness: photo.likeness, score: photo.faces[0]!.score,
  }));
  const places = new Map([...bursts(scored)].map(([{ photo }, place]) => [photo, place]));
  for (const photo of photos) {
    const place = places.get(photo);
    if (place?.best !== photo.burst?.best || place?.count !== photo.burst?.count) {
      photo.burst = place;
      draw(photo);
    }
    const isRest = show.value === "best" && place !== undefined && !place.best;
    photo.element.hidden = isRest || (show.value === "todo" && !hasTodo(photo, chosenPolicy()));
  }
  const worth = ({ faces }: Photo) => faces[0]?.score ?? -1;
  const orders: Record<string, (a: Photo, b: Photo) => number> = {
    best: (a, b) => worth(b) - worth(a),
    worst: (a, b) => worth(a) - worth(b),
    name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  };
  const order = orders[sort.value];
  const wanted = (order ? [...photos].sort(order) : photos).map((photo) => photo.element);
  if (wanted.some((each, at) => list.children[at] !== each)) list.append(...wanted);
  element("sheet").hidden = photos.length === 0;
}

let arranging = 0;
/** Soon, and once for many photos that are done in a row. */
function arrangeSoon(): void {
  arranging ||= window.setTimeout(() => {
    arranging = 0;
    arrange();
  }, 300);
}

const draw = (photo: Photo) => render(photo, chosenPolicy(), look);

function add(files: Iterable<File>): void {
  for (const file of files) {
    const photo = newPhoto(file, file.webkitRelativePath || file.name);
    photos.push(photo);
    draw(photo);
    list.append(photo.element);
  }
  arrange();
  void work();
}

let working = false;
/** Judge what waits, one photo after the other. */
async function work(): Promise<void> {
  if (working) return;
  working = true;
  document.documentElement.dataset.working = "true";
  for (let photo = next(); photo; photo = next()) {
    if (!(await usable) && where.value === "device") break; // the notice says why, and how to go on
    await judge(photo);
    draw(photo);
    progress();
    arrangeSoon();
  }
  working = false;
  arrange();
  delete document.documentElement.dataset.working;
}

const next = () => photos.find((photo) => photo.status === "waiting");

function progress(): void {
  const all = photos.length;
  const done = photos.filter((photo) => photo.status !== "waiting").length;
  const faces = photos.reduce((sum, photo) => sum + photo.faces.length, 0);
  const todo = photos.filter((photo) => hasTodo(photo, chosenPolicy())).length;
  if (done < all) status("progress", { done, all });
  else status(all === 1 ? "finishedOne" : "finished", { all, faces, todo });
}

async function judge(photo: Photo): Promise<void> {
  const remote = where.value === "server";
  try {
    const found = await engine.ask("photo", { file: photo.file, score: !remote });
    if ("trouble" in found) photo.status = found.trouble;
    else {
      Object.assign(photo, found, { thumbnail: URL.createObjectURL(found.thumbnail) });
      photo.status = found.faces.length ? "ok" : "no_face";
    }
  } catch (error) {
    Object.assign(photo, { status: "failed", error: String(error instanceof Error ? error.message : error) });
    restart();
  }
  if (!remote) return;
  try {
    Object.assign(photo, await ask(photo.file, element<HTMLInputElement>("key").value));
  } catch (error) {
    Object.assign(photo, { status: "server", faces: [], error: (error as Error).message });
  }
}

const closer = element<HTMLDialogElement>("closer");
function look(photo: Photo): void {
  const source = URL.createObjectURL(photo.file);
  element("closer-title").textContent = photo.name;
  element("large").replaceChildren(...details(photo, chosenPolicy(), source));
  closer.onclose = () => {
    element("large").replaceChildren();
    URL.revokeObjectURL(source);
  };
  closer.showModal();
}

function save(name: string, content: Blob): void {
  const source = URL.createObjectURL(content);
  make("a", { href: source, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(source), 10_000);
}

const camera = new Camera(
  () => engine,
  (picture) => add([new File([picture], say("coach.name", { number: ++shots }), { type: "image/png" })]),
  (key) => notice(say(key), openCamera),
);
async function openCamera(): Promise<void> {
  element("notice").hidden = true;
  if (await usable) await camera.open();
}

element<HTMLInputElement>("files").onchange = ({ target }) => {
  const input = target as HTMLInputElement;
  add(input.files!);
  input.value = "";
};
element("camera").onclick = () => void openCamera();
element("close").onclick = () => closer.close();
element("csv").onclick = () => {
  const all = photos.filter((photo) => photo.status !== "waiting").flatMap((photo) => rows(photo, chosenPolicy()));
  save("scores.csv", new Blob([toCsv(all)], { type: "text/csv" }));
};
element("clear").onclick = () => {
  for (const { thumbnail } of photos) URL.revokeObjectURL(thumbnail);
  photos.length = 0;
  list.replaceChildren();
  arrange();
  status("ready");
  element("files").focus();
};
for (const select of [sort, show]) select.onchange = arrange;
policy.onchange = () => {
  photos.forEach(draw);
  arrange();
  if (photos.length) progress();
};
where.onchange = () => {
  element("key-place").hidden = where.value === "device";
  element("promise").textContent = say(where.value === "device" ? "promise" : "promise.server");
};
runtime.onchange = restart;

const drop = element("drop");
const over = (on: boolean) => {
  drop.classList.toggle("over", on);
  element("hint").textContent = say(on ? "dropNow" : "dropHint");
};
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  over(true);
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) over(false);
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over(false);
  add(event.dataTransfer!.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData!.files.length) add(event.clipboardData!.files);
});

element("about").textContent = say("about", { name: card.name, version: card.version });
usable = start();
