/** One photo of the sheet: what is known of it, as an element and as rows. */

import { ATTRIBUTES, type Attributes } from "./attributes";
import type { Place } from "./bursts";
import { draw, make, outline } from "./elements";
import { type Row } from "./csv";
import { type Decision, type PolicyName, POLICIES, decide } from "./policy";
import { SMALL_FACE, type ScoredFace } from "./scorer";
import { type Key, say } from "./texts";

export interface Photo {
  name: string;
  file: File;
  width: number;
  height: number;
  faces: ScoredFace[];
  /** `waiting`, `ok`, `no_face`, or why it cannot be used. */
  status: string;
  /** What belongs into the status' text. */
  error: string;
  likeness: string;
  thumbnail: string;
  burst: Place | undefined;
  /** What decoding and judging took in the worker. */
  decodeMs: number;
  scoreMs: number;
  element: HTMLLIElement;
}

export function newPhoto(file: File, name: string): Photo {
  const known = { name, file, width: 0, height: 0, faces: [], status: "waiting", error: "", decodeMs: 0, scoreMs: 0 };
  return { ...known, likeness: "", thumbnail: "", burst: undefined, element: make("li", { className: "photo" }) };
}

export function statusText({ status, error }: Photo): string {
  return status === "waiting" ? say("waiting") : say(`status.${status}` as Key, { error });
}

/** Whether something should be done about it, for the person who looks for what to do. */
export function hasTodo(photo: Photo, policy: PolicyName): boolean {
  if (photo.status === "waiting") return false;
  if (photo.status !== "ok") return true;
  return photo.faces.some((face) => decide(POLICIES[policy], face, face.attributes)[0] !== "accept");
}

const smallFace = ({ box }: ScoredFace) => {
  const size = Math.max(box.width, box.height);
  return size < SMALL_FACE ? say("smallFace", { size: size.toFixed(0) }) : "";
};

/** Rows as efiqa score --policy --attributes writes them. */
export function rows(photo: Photo, policy: PolicyName): Row[] {
  const { name: image, status } = photo;
  if (status !== "ok") {
    return [{ image, face: 0, status, message: statusText(photo), decision: "reject", reasons: status }];
  }
  return photo.faces.map((face, index) => {
    const [decision, why] = decide(POLICIES[policy], face, face.attributes);
    const { score, quality, box, detection, attributes } = face;
    const cells = Object.fromEntries(ATTRIBUTES.map((name) => [name, attributes[name]]));
    const known = { image, face: index, status, score, quality, ...box, detection, message: smallFace(face) };
    return { ...known, decision, reasons: why.join(";"), ...cells };
  });
}

/** Fill the photo's element anew. */
export function render(photo: Photo, policy: PolicyName, open: (photo: Photo) => void): void {
  const parts: Node[] = [];
  if (photo.thumbnail) {
    const button = make("button", { type: "button", className: "open" }, picture(photo, policy, photo.thumbnail));
    button.setAttribute("aria-label", say("open", { name: photo.name }));
    button.onclick = () => open(photo);
    parts.push(button);
  }
  parts.push(make("h3", { textContent: photo.name }));
  if (photo.burst?.best) {
    parts.push(make("span", { className: "best", textContent: say("bestOfBurst", { count: photo.burst.count }) }));
  }
  if (photo.status === "ok") parts.push(faceList(photo, policy));
  else parts.push(make("p", { textContent: statusText(photo) }));
  const { status, decodeMs, scoreMs } = photo;
  Object.assign(photo.element.dataset, { status, decodeMs, scoreMs }); // for tests and benchmarks
  photo.element.replaceChildren(...parts);
}

/** The photo, large, with all that was measured. */
export function details(photo: Photo, policy: PolicyName, source: string): Node[] {
  const tables = photo.faces.map((face, index) => {
    const caption = make("caption", { textContent: say("face", { number: index + 1 }) });
    const lines = ATTRIBUTES.map((name) => attributeRow(name, face.attributes));
    return make("table", {}, caption, ...lines);
  });
  return [picture(photo, policy, source), make("div", {}, faceList(photo, policy), ...tables)];
}

function attributeRow(name: (typeof ATTRIBUTES)[number], attributes: Attributes): HTMLTableRowElement {
  const value = attributes[name];
  const title = make("th", { textContent: say(`attribute.${name}`), scope: "row" });
  if (value === null) return make("tr", {}, title, make("td", { colSpan: 2, textContent: say("unknown") }));
  const meter = make("meter", { max: 100, low: 50, optimum: 100, value, textContent: String(value) });
  meter.setAttribute("aria-label", say(`attribute.${name}`));
  return make("tr", {}, title, make("td", {}, meter), make("td", { textContent: value.toFixed(0) }));
}

function picture(photo: Photo, policy: PolicyName, source: string): HTMLElement {
  const image = make("img", { src: source, alt: photo.name, width: photo.width, height: photo.height });
  image.loading = "lazy";
  const boxes = draw("svg", { viewBox: `0 0 ${photo.width} ${photo.height}`, "aria-hidden": "true" });
  const size = Math.max(photo.width, photo.height) / 18;
  photo.faces.forEach((face, index) => {
    const [decision] = decide(POLICIES[policy], face, face.attributes);
    const x = Math.max(0, face.box.x);
    const y = Math.max(size * 1.2, face.box.y);
    const text = String(index + 1);
    const group = draw("g", { "data-decision": decision });
    const width = size * (0.5 + 0.6 * text.length);
    const tag = draw("rect", { class: "tag", x, y: y - size * 1.2, width, height: size * 1.2 });
    const label = draw("text", { x: x + size * 0.25, y: y - size * 0.25, "font-size": size }, text);
    group.append(outline(face.box), outline(face.box), tag, label);
    boxes.append(group);
  });
  return make("span", { className: "picture" }, image, boxes);
}

function faceList(photo: Photo, policy: PolicyName): HTMLUListElement {
  const items = photo.faces.map((face, index) => {
    const [decision, why] = decide(POLICIES[policy], face, face.attributes);
    return faceItem(face, index, decision, why.length ? why : face.reasons);
  });
  return make("ul", { className: "faces" }, ...items);
}

function faceItem(face: ScoredFace, index: number, decision: Decision, why: readonly string[]): HTMLLIElement {
  const number = make("span", { className: "number", textContent: say("quality", { quality: face.quality.toFixed(0) }) });
  const verdict = make("span", { className: "verdict", textContent: say(`decision.${decision}`) });
  const title = make("span", { className: "soft", textContent: say("face", { number: index + 1 }) });
  const values = { quality: face.quality.toFixed(0), score: face.score.toFixed(3) };
  const about = make("div", { className: "soft", textContent: say("qualityAbout", values) });
  const small = smallFace(face);
  const causes = why.filter((reason) => reason !== "quality" && reason !== "score");
  const todo = (causes.length ? causes : why).map((reason) => {
    const name = make("strong", { textContent: say(`reason.${reason}` as Key) });
    return make("li", {}, name, `: ${say(`advice.${reason}` as Key)}`);
  });
  const list = todo.length ? make("ul", { className: "todo" }, ...todo) : make("div", { textContent: say("noAdvice") });
  const item = make("li", {}, title, " ", number, " ", verdict, about, list);
  if (small) item.append(make("div", { className: "soft", textContent: small }));
  item.dataset.decision = decision;
  item.dataset.score = String(face.score);
  return item;
}
