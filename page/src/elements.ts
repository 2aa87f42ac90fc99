/** Small pieces of page. */

import type { Box } from "./faces";

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** An element with its properties and what is in it. */
export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Partial<HTMLElementTagNameMap[Tag]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function draw(tag: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.textContent = text;
  return made;
}

export const outline = ({ x, y, width, height }: Box) => draw("rect", { x, y, width, height });

/** A choice in a <select>. */
export function choices(id: string, options: Record<string, string>, chosen: string): HTMLSelectElement {
  const select = element<HTMLSelectElement>(id);
  select.append(...Object.entries(options).map(([value, text]) => make("option", { value, textContent: text })));
  select.value = chosen;
  return select;
}
