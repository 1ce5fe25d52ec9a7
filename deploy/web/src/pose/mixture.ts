/** The law of a pose whose left and right may be confused: a mixture of Student-t's of one person (posecov/mixture.py). */

import { condition as conditional, expectedDistance, spread } from "./law";
import { block } from "./linalg";

/** Component k has weight, mean (D,) and scatter (D, D) of that index; the first one leads. */
export interface Mixture {
  readonly weights: Float64Array;
  readonly means: readonly Float64Array[];
  readonly scatters: readonly Float64Array[];
  readonly nu: number;
  /** Which exchange of left and right a component is. */
  readonly exchanges: readonly number[];
}

/**
 * The law of a prediction: component k is the first one with its coordinates in the order of exchange k.
 *
 * @param permutations for every exchange J indices of joints, the first one 0 ... J-1.
 */
export function ofExchanges(
  mean: ArrayLike<number>,
  scatter: ArrayLike<number>,
  nu: number,
  weights: ArrayLike<number>,
  permutations: readonly (readonly number[])[],
): Mixture {
  const n = mean.length;
  let total = 0;
  for (let k = 0; k < weights.length; k++) total += weights[k];
  const orders = permutations.map((order) => order.flatMap((joint) => [2 * joint, 2 * joint + 1]));
  const own = Float64Array.from(scatter);
  return {
    weights: Float64Array.from(weights, (weight) => weight / total),
    means: orders.map((order) => Float64Array.from(order, (row) => mean[row])),
    scatters: orders.map((order) => block(own, n, order, order)),
    nu,
    exchanges: permutations.map((_, k) => k),
  };
}

/** The law of the other coordinates once some are known; the likeliest component comes first. */
export function condition(law: Mixture, known: readonly number[], values: ArrayLike<number>): Mixture {
  if (!known.length) return law;
  const parts = law.means.map((mean, k) => conditional(mean, law.scatters[k], law.nu, known, values));
  const terms = parts.map((part, k) => Math.log(law.weights[k]) + part.evidence);
  const top = Math.max(...terms);
  const powers = terms.map((term) => Math.exp(term - top));
  const total = powers.reduce((sum, power) => sum + power, 0);
  const order = powers.map((_, k) => k).sort((a, b) => powers[b] - powers[a] || a - b);
  return {
    weights: Float64Array.from(order, (k) => powers[k] / total),
    means: order.map((k) => parts[k].mean),
    scatters: order.map((k) => parts[k].scatter),
    nu: law.nu + known.length,
    exchanges: order.map((k) => law.exchanges[k]),
  };
}

/** The law of one joint, as counted among the coordinates of the law; components that are the same become one. */
export function pointLaw(law: Mixture, joint: number): Mixture {
  const rows = [2 * joint, 2 * joint + 1];
  const weights: number[] = [];
  const means: Float64Array[] = [];
  const scatters: Float64Array[] = [];
  const exchanges: number[] = [];
  law.means.forEach((all, k) => {
    const mean = Float64Array.from(rows, (row) => all[row]);
    const scatter = block(law.scatters[k], all.length, rows, rows);
    const same = means.findIndex((other, i) => {
      const size = scatters[i][0] + scatters[i][3];
      const apart = (other[0] - mean[0]) ** 2 + (other[1] - mean[1]) ** 2;
      return apart < 1e-12 * size && scatters[i].every((value, at) => Math.abs(value - scatter[at]) < 1e-8 * size);
    });
    if (same >= 0) {
      weights[same] += law.weights[k];
    } else {
      weights.push(law.weights[k]);
      means.push(mean);
      scatters.push(scatter);
      exchanges.push(law.exchanges[k]);
    }
  });
  return { weights: Float64Array.from(weights), means, scatters, nu: law.nu, exchanges };
}

/** Second moments (D, D) about the leading component's mean. */
export function covariance(law: Mixture): Float64Array {
  const n = law.means[0].length;
  const total = new Float64Array(n * n);
  const factor = spread(law.nu);
  law.means.forEach((mean, k) => {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        const apart = (mean[i] - law.means[0][i]) * (mean[j] - law.means[0][j]);
        total[i * n + j] += law.weights[k] * (factor * law.scatters[k][i * n + j] + apart);
      }
    }
  });
  return total;
}

/** Expected distance of a point (D = 2) from its place in the leading component. */
export function expectedError(point: Mixture): number {
  return point.means.reduce((sum, mean, k) => {
    const [dx, dy] = [mean[0] - point.means[0][0], mean[1] - point.means[0][1]];
    return sum + point.weights[k] * expectedDistance(dx, dy, point.scatters[k], point.nu);
  }, 0);
}

/** Components that are one pose to the eye, and their probability; the leading one first, the others by probability. */
export function hypotheses(law: Mixture): { components: number[]; probability: number }[] {
  const n = law.means[0].length;
  const groups: number[][] = [];
  const others = law.means.map((_, k) => k).slice(1);
  others.sort((a, b) => law.weights[b] - law.weights[a] || a - b);
  for (const k of [0, ...others]) {
    const group = groups.find(([first]) => {
      for (let row = 0; row < n; row += 2) {
        const s = law.scatters[first];
        const sigma = Math.sqrt((spread(law.nu) * (s[row * n + row] + s[(row + 1) * n + row + 1])) / 2);
        const [a, b] = [law.means[k], law.means[first]];
        if (!(Math.hypot(a[row] - b[row], a[row + 1] - b[row + 1]) <= sigma)) return false;
      }
      return true;
    });
    if (group) group.push(k);
    else groups.push([k]);
  }
  const found = groups.map((components) => ({
    components,
    probability: components.reduce((sum, k) => sum + law.weights[k], 0),
  }));
  return [found[0], ...found.slice(1).sort((a, b) => b.probability - a.probability)];
}

/** The law when only some components are possible, the first of them leading. */
export function part(law: Mixture, components: readonly number[]): Mixture {
  const total = components.reduce((sum, k) => sum + law.weights[k], 0);
  return {
    weights: Float64Array.from(components, (k) => law.weights[k] / total),
    means: components.map((k) => law.means[k]),
    scatters: components.map((k) => law.scatters[k]),
    nu: law.nu,
    exchanges: components.map((k) => law.exchanges[k]),
  };
}
