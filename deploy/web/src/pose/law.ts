/**
 * The Student-t of a point: what posecov/law.py says about two dimensions, and the conditional law of any number.
 *
 * nu are the degrees of freedom, Infinity for a Gaussian; the scatter stands in the density, nu / (nu - 2) times it are the
 * second moments.
 */

import { block, cholesky, solveLower } from "./linalg";

/** nu / (nu - 2), by which the covariance exceeds the scatter; 1 for a Gaussian. */
export const spread = (nu: number): number => 1 / (1 - 2 / nu);

/** Mass of the central ellipse that reaches a squared Mahalanobis distance. */
export const centralMass = (squared: number, nu: number): number =>
  -Math.expm1(nu === Infinity ? -squared / 2 : (-nu / 2) * Math.log1p(squared / nu));

/** The squared distance at which the central ellipse holds a mass: the inverse of `centralMass`. */
export const centralRadiusSquared = (mass: number, nu: number): number =>
  nu === Infinity ? -2 * Math.log1p(-mass) : nu * Math.expm1((-2 / nu) * Math.log1p(-mass));

/** Log density of d dimensions at a squared distance minus that at the centre. */
export const fall = (squared: number, nu: number, dimension: number): number =>
  nu === Infinity ? -squared / 2 : (-(nu + dimension) / 2) * Math.log1p(squared / nu);

export interface Conditional {
  mean: Float64Array;
  scatter: Float64Array;
  /** Log density that was given to the evidence, up to what all scatters of this size have in common. */
  evidence: number;
}

/**
 * The law of the remaining coordinates once some are known (posecov/law.py, `condition`); it has nu + known.length degrees of
 * freedom. Evidence that fits badly widens it.
 */
export function condition(
  mean: Float64Array,
  scatter: Float64Array,
  nu: number,
  known: readonly number[],
  values: ArrayLike<number>,
): Conditional {
  const n = mean.length;
  const rest = Array.from({ length: n }, (_, row) => row).filter((row) => !known.includes(row));
  const [d, free] = [known.length, rest.length];
  const root = cholesky(block(scatter, n, known, known), d);
  const gain = solveLower(root, d, block(scatter, n, known, rest), free);
  const off = solveLower(root, d, Float64Array.from(known, (row, i) => values[i] - mean[row]), 1);
  const squared = off.reduce((sum, value) => sum + value * value, 0);
  const widened = (1 + squared / nu) / (1 + d / nu);
  const moved = Float64Array.from(rest, (row) => mean[row]);
  const narrowed = block(scatter, n, rest, rest);
  for (let k = 0; k < d; k++) {
    for (let i = 0; i < free; i++) {
      moved[i] += gain[k * free + i] * off[k];
      for (let j = 0; j < free; j++) narrowed[i * free + j] -= gain[k * free + i] * gain[k * free + j];
    }
  }
  for (let i = 0; i < narrowed.length; i++) narrowed[i] *= widened;
  let logDet = 0;
  for (let i = 0; i < d; i++) logDet += 2 * Math.log(root[i * d + i]);
  return { mean: moved, scatter: narrowed, evidence: fall(squared, nu, d) - logDet / 2 };
}

const DIRECTIONS = 64;

/** Expected length of offset + x, x of the law with this scatter (2, 2): how far a point is from a place, on average. */
export function expectedDistance(dx: number, dy: number, scatter: ArrayLike<number>, nu: number): number {
  const centred = dx === 0 && dy === 0;
  const logBeta = nu === Infinity ? 0 : logGamma(nu / 2) + logGamma(0.5) - logGamma((nu + 1) / 2);
  let sum = 0;
  for (let k = 0; k < DIRECTIONS; k++) {
    const [c, s] = [Math.cos((k * Math.PI) / DIRECTIONS), Math.sin((k * Math.PI) / DIRECTIONS)];
    const middle = dx * c + dy * s;
    const variance = c * c * scatter[0] + c * s * (scatter[1] + scatter[2]) + s * s * scatter[3];
    if (!(variance > 0)) {
      sum += Math.abs(middle);
      continue;
    }
    const width = Math.sqrt(variance);
    const z = middle / width;
    const tail =
      nu === Infinity
        ? Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)
        : (Math.exp((-(nu + 1) / 2) * Math.log1p((z * z) / nu) - logBeta - Math.log(nu) / 2) * (nu + z * z)) / (nu - 1);
    sum += middle * (centred ? 0 : 2 * cumulative(z, nu) - 1) + 2 * width * tail;
  }
  return (Math.PI / 2) * (sum / DIRECTIONS);
}

/** P(x <= z) of the one-dimensional law of unit scatter. */
export function cumulative(z: number, nu: number): number {
  if (nu === Infinity) {
    if (Math.abs(z) > 8) return z > 0 ? 1 : 0;
    let [term, sum] = [z, z];
    for (let k = 3; Math.abs(term) > 1e-17 * Math.abs(sum); k += 2) sum += term *= (z * z) / k;
    return 0.5 + (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
  }
  const tail = incompleteBeta(nu / (nu + z * z), nu / 2, 0.5) / 2;
  return z > 0 ? 1 - tail : tail;
}

const LANCZOS = [
  676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905, -0.13857109526572012,
  9.9843695780195716e-6, 1.5056327351493116e-7,
];

/** log of the gamma function for x > 0. */
export function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const t = x + 6.5;
  let sum = 0.99999999999980993;
  LANCZOS.forEach((value, i) => (sum += value / (x + i)));
  return Math.log(2 * Math.PI) / 2 + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

/** Regularised incomplete beta function by its continued fraction (DLMF 8.17.22, in Lentz's way). */
export function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b)) / a;
  let [c, d] = [1, 1 / nonzero(1 - ((a + b) * x) / (a + 1))];
  let found = d;
  for (let m = 1; m < 500; m++) {
    for (const step of [
      (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
      (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
    ]) {
      d = 1 / nonzero(1 + step * d);
      c = nonzero(1 + step / c);
      found *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-14) break;
  }
  return front * found;
}

const nonzero = (value: number): number => (Math.abs(value) < 1e-300 ? 1e-300 : value);
