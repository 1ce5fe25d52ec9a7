/** The page's elements. */

/** An element that index.html has. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

export const calm = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** What frees a joint, in the words of those who have a finger or a mouse. */
export const twice = (): string => (matchMedia("(pointer: coarse)").matches ? "double-tap" : "double-click");

/** A length as people read it: "0.4 px", "37 px". */
export const pixels = (length: number): string => `${length >= 10 ? Math.round(length) : length.toFixed(1)} px`;

/** A probability as people read it; never 0 % or 100 % of what is only likely. */
export function percent(probability: number): string {
  const whole = Math.round(100 * probability);
  return probability > 0 && probability < 0.01 ? "under 1 %" : `${probability < 1 ? Math.min(whole, 99) : whole} %`;
}
