/** Every word the page says. A translation is a file beside en.json with the same keys, and a line in TEXTS. */

import en from "./en.json";

export type Key = keyof typeof en;

const TEXTS: Record<string, Record<Key, string>> = { en };

export const language = navigator.languages.map((tag) => tag.split("-")[0]!).find((tag) => tag in TEXTS) ?? "en";

/** The text of a key with its {places} filled in. */
export function say(key: Key, values: Record<string, string | number> = {}): string {
  return TEXTS[language]![key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name]));
}

/** Put the texts into elements that name them: data-text, data-label. */
export function fill(root: Document): void {
  root.documentElement.lang = language;
  root.title = say("title");
  for (const element of root.querySelectorAll<HTMLElement>("[data-text]")) {
    element.textContent = say(element.dataset.text as Key);
  }
  for (const element of root.querySelectorAll<HTMLElement>("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label as Key));
  }
}
