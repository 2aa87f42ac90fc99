/** efiqa.policy: accept, review or reject, and what speaks against the face. */

import { ATTRIBUTES, type Attribute, type Attributes, type Reason, reasons } from "./attributes";
import known from "./known.json";

export interface Policy {
  on: "score" | "quality";
  reject_below: number;
  accept_from: number;
  attributes: Partial<Record<Attribute, number>>;
  about: string;
}

export type Decision = "accept" | "review" | "reject";
export type PolicyName = keyof typeof known.policies;

/** Those that ship with the package. */
export const POLICIES = known.policies as Record<PolicyName, Policy>;

/** What a policy says of a scored face; reasons are worst first, `score` or `quality` before the attributes. */
export function decide(
  policy: Policy,
  face: { score: number; quality: number | null },
  attributes: Attributes,
): [Decision, (Reason | "score" | "quality")[]] {
  const value = face[policy.on] ?? 0;
  const failing = below(policy.attributes, attributes);
  const low = below(Object.fromEntries(ATTRIBUTES.map((name) => [name, 50])), attributes);
  const weak = [...new Set([policy.on, ...failing, ...low])];
  if (value < policy.reject_below) return ["reject", weak];
  if (failing.length) return ["reject", failing];
  return value < policy.accept_from ? ["review", weak] : ["accept", []];
}

/** Names of attributes below their least value, worst first, as reasons. */
function below(least: Partial<Record<Attribute, number>>, attributes: Attributes): Reason[] {
  const failing = { ...attributes };
  for (const name of ATTRIBUTES) {
    const value = attributes[name];
    if (value === null || value >= (least[name] ?? -Infinity)) failing[name] = null;
  }
  return reasons(failing, Infinity);
}
