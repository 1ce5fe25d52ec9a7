/** The JSON that `posecov image` writes (posecov/output.py, Pose.to_dict): posecov.pose.Pose.from_dict reads its people. */

import type { Pose } from "./pose/pose";

/** Document of a picture with one person, or nobody. */
export function pictureDocument(image: string, width: number, height: number, model: string, mass: number, pose: Pose | null): object {
  return { image, width, height, model, mass, people: pose ? [personDocument(pose, width, height, mass)] : [] };
}

function personDocument(pose: Pose, width: number, height: number, mass: number): object {
  const names = pose.skeleton.keypoints;
  const points = keypointsOf(pose);
  const keypoints = Object.fromEntries(
    names.map((name, joint) => {
      const { major, minor, angle } = pose.ellipse(joint, mass);
      const { x, y } = points[name];
      const outside = x < -0.5 || y < -0.5 || x > width - 0.5 || y > height - 0.5;
      return [name, { ...points[name], ellipse: { semi_major: major, semi_minor: minor, angle }, outside }];
    }),
  );
  const { law, facts } = pose;
  const fields = {
    box: pose.box && [...pose.box].map(short),
    names,
    keypoints,
    covariance: rows(pose.covariance, 2 * names.length),
    degrees_of_freedom: law.nu === Infinity ? null : law.nu,
    known: [...pose.known.keys()].map((joint) => names[joint]),
    skeleton: pose.skeleton,
  };
  if (law.weights.length < 2 || !pose.free.length) return fields;
  const size = law.means[0].length;
  const weights = [...law.weights];
  const components = pose.known.size
    ? { weights, means: law.means.map((mean) => [...mean].map(short)), scatters: law.scatters.map((own) => rows(own, size)) }
    : { weights, scatter: rows(law.scatters[0], size), permutations: facts.exchanges.map((exchange) => exchange.permutation) };
  const alternatives = pose.alternatives.map((other) => ({ probability: other.probability, keypoints: keypointsOf(other.pose) }));
  return { ...fields, components, alternatives };
}

function keypointsOf(pose: Pose): Record<string, { x: number; y: number; sigma: number }> {
  const [points, sigma] = [pose.keypoints, pose.sigma];
  return Object.fromEntries(
    pose.skeleton.keypoints.map((name, j) => [name, { x: short(points[2 * j]), y: short(points[2 * j + 1]), sigma: short(sigma[j]) }]),
  );
}

function rows(matrix: Float64Array, n: number): number[][] {
  return Array.from({ length: n }, (_, i) => [...matrix.subarray(i * n, (i + 1) * n)].map(short));
}

/** A number with the fewest digits that give the same float32. */
export function short(value: number): number {
  const wanted = Math.fround(value);
  for (let digits = 6; digits < 9; digits++) {
    const found = Number(wanted.toPrecision(digits));
    if (Math.fround(found) === wanted) return found;
  }
  return Number(wanted.toPrecision(9));
}
