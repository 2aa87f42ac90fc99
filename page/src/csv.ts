/** Predictions as efiqa.records writes them: one row per face, at least one per picture. */

import { ATTRIBUTES } from "./attributes";
import known from "./known.json";

export type Cell = string | number | null | undefined;
export type Row = Record<string, Cell>;

export const COLUMNS = [...known.columns, "decision", "reasons", ...ATTRIBUTES];

export function toCsv(rows: Row[]): string {
  return [COLUMNS, ...rows.map((row) => COLUMNS.map((name) => row[name]))].map(line).join("");
}

function line(cells: Cell[]): string {
  return `${cells.map(cell).join(",")}\n`;
}

function cell(value: Cell): string {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
