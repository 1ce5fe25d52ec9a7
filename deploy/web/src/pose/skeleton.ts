/** Joint names, mirror pairs and limbs, as a model carries them (posecov/skeleton.py). */

export interface Skeleton {
  name: string;
  keypoints: string[];
  flip_pairs: [string, string][];
  limbs: [string, string][];
  torso?: [string, string];
  oks_sigmas?: number[];
}

export type Side = "right" | "left" | "centre";

/** The one side that joints are on; the centre when none or both. */
export function sideOf(skeleton: Skeleton, joints: readonly number[]): Side {
  const paired = new Set(skeleton.flip_pairs.flat());
  const sides = new Set(joints.map((joint) => skeleton.keypoints[joint]).filter((name) => paired.has(name)).map(sideOfName));
  return sides.has("right") === sides.has("left") ? "centre" : sides.has("right") ? "right" : "left";
}

const sideOfName = (name: string): Side =>
  /^(r_|right[_ ])/i.test(name) ? "right" : /^(l_|left[_ ])/i.test(name) ? "left" : "centre";

/** A joint's name for people: `r_wrist` is the right wrist. */
export const spoken = (name: string): string => name.replace(/^r_/, "right ").replace(/^l_/, "left ").replaceAll("_", " ");

/** Limbs as pairs of joint indices. */
export const limbIndices = (skeleton: Skeleton): [number, number][] =>
  skeleton.limbs.map(([a, b]) => [skeleton.keypoints.indexOf(a), skeleton.keypoints.indexOf(b)]);
