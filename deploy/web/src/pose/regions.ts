/**
 * Where one joint lies, when its law may have two centres: the ellipse and the outlines that hold a mass (posecov/regions.py,
 * posecov/density.py in two dimensions). All functions take the `Mixture` of one point, D = 2.
 */

import { centralMass, centralRadiusSquared } from "./law";
import { axes2, cholesky } from "./linalg";
import type { Mixture } from "./mixture";

/** Vertices x0, y0, x1, y1, ... of a closed outline, without a repeated one. */
export type Outline = Float64Array;

export interface Ellipse {
  major: number;
  minor: number;
  /** atan2(y, x) of the longer axis in radians, y down. */
  angle: number;
}

/** How finely the outlines of several components are found: lines of the grid over all of them, rays and steps along them. */
export interface Fineness {
  lines: number;
  angles: number;
  strata: number;
  /** Steps in which a vertex comes to the level. */
  steps: number;
  /** Probability below which a component is left out. */
  negligible: number;
}

/** As posecov/density.py. */
export const FINE: Fineness = { lines: 110, angles: 48, strata: 16, steps: 5, negligible: 1e-5 };
/** For the moments in which a joint is dragged. */
export const QUICK: Fineness = { lines: 44, angles: 8, strata: 12, steps: 1, negligible: 1e-3 };

const OUTLINE = 96;
const RIM = 1024;

/** Components with what their density needs, flat: this is the work of every step of a drag. */
interface Components {
  count: number;
  nu: number;
  weights: number[];
  /** For each x, y of the mean; l00, l10, l11 of the scatter's lower factor. */
  roots: [number, number, number, number, number][];
  /** For each x, y; the rows of L^-1: 1 / l00, -l10 / (l00 l11), 1 / l11; and the density at the centre times the weight. */
  flat: Float64Array;
}

const STRIDE = 6;

function componentsOf(point: Mixture, negligible: number): Components {
  const found: Components = { count: 0, nu: point.nu, weights: [], roots: [], flat: new Float64Array(STRIDE * point.means.length) };
  point.means.forEach(([x, y], k) => {
    const weight = point.weights[k];
    if (k > 0 && !(weight > negligible)) return;
    const [l00, , l10, l11] = cholesky(point.scatters[k], 2);
    found.weights.push(weight);
    found.roots.push([x, y, l00, l10, l11]);
    found.flat.set([x, y, 1 / l00, -l10 / (l00 * l11), 1 / l11, weight / (2 * Math.PI * l00 * l11)], STRIDE * found.count++);
  });
  return found;
}

/** Density of the law at a place. */
function density({ flat, count, nu }: Components, x: number, y: number): number {
  let sum = 0;
  const power = -(nu + 2) / 2;
  for (let at = 0; at < STRIDE * count; at += STRIDE) {
    const dx = x - flat[at];
    const u = flat[at + 2] * dx;
    const v = flat[at + 3] * dx + flat[at + 4] * (y - flat[at + 1]);
    const squared = u * u + v * v;
    sum += flat[at + 5] * (nu === Infinity ? Math.exp(-squared / 2) : (1 + squared / nu) ** power);
  }
  return sum;
}

/**
 * Log density at the boundary of the region of highest density that holds a mass.
 *
 * Points stand for the law: rays of every component at evenly spaced angles, quantiles of its radius on them, stratified,
 * shifted from ray to ray by the golden ratio, with finer strata towards the tail.
 */
function level(parts: Components, mass: number, { angles, strata }: Fineness): number {
  const rays = 2 * angles;
  const { radii, widths } = quantiles(parts.nu, rays, strata);
  const heights = new Float64Array(parts.count * rays * strata);
  const shares = new Float64Array(heights.length);
  let at = 0;
  parts.roots.forEach(([x, y, l00, l10, l11], k) => {
    for (let ray = 0; ray < rays; ray++) {
      // In the order of density.py: axis by axis, first the one direction, then the other.
      const turn = (((ray >> 1) + 0.5) * Math.PI) / angles + (ray & 1 ? Math.PI : 0);
      const [c, s] = [Math.cos(turn), Math.sin(turn)];
      const [rx, ry] = [l00 * c, l10 * c + l11 * s];
      for (let i = 0; i < strata; i++) {
        const radius = radii[ray * strata + i];
        heights[at] = Math.log(density(parts, x + radius * rx, y + radius * ry));
        shares[at++] = (parts.weights[k] * widths[i]) / rays;
      }
    }
  });
  // Bisection: below the level lies what is left of the mass. Cheaper than sorting.
  let [low, high] = [Infinity, -Infinity];
  for (const height of heights) [low, high] = [Math.min(low, height), Math.max(high, height)];
  for (let step = 0; step < 24; step++) {
    const middle = (low + high) / 2;
    let below = 0;
    for (let i = 0; i < heights.length; i++) if (heights[i] < middle) below += shares[i];
    if (below > 1 - mass) high = middle;
    else low = middle;
  }
  return (low + high) / 2;
}

let kept: { nu: number; rays: number; strata: number; radii: Float64Array; widths: number[] } | null = null;

/** Distances of the points on every ray from their component's centre, in its own units, and the shares of the strata. */
function quantiles(nu: number, rays: number, strata: number): { radii: Float64Array; widths: number[] } {
  // All joints of a pose ask for the same ones.
  if (kept && kept.nu === nu && kept.rays === rays && kept.strata === strata) return kept;
  const steps = strata - 3;
  const edges = Array.from({ length: steps }, (_, i) => i / steps);
  for (const tail of [0.25, 0.0625, 0.0078125, 0]) edges.push(1 - tail / steps);
  const widths = edges.slice(1).map((edge, i) => edge - edges[i]);
  const radii = new Float64Array(rays * strata);
  for (let ray = 0; ray < rays; ray++) {
    const shift = ((ray + 0.5) * ((Math.sqrt(5) - 1) / 2)) % 1;
    widths.forEach((width, i) => {
      const place = Math.min(Math.max(edges[i] + shift * width, 1e-12), 1 - 1e-12);
      radii[ray * strata + i] = Math.sqrt(centralRadiusSquared(place, nu));
    });
  }
  kept = { nu, rays, strata, radii, widths };
  return kept;
}

/** Outlines of the smallest region that holds a mass, the largest first; a polygon inside another is a hole. */
export function contours(point: Mixture, mass: number, fineness: Fineness = FINE): Outline[] {
  const parts = componentsOf(point, fineness.negligible);
  const { nu, flat, roots, count } = parts;
  if (count === 1) {
    const { major, minor, angle } = axes2(point.scatters[0]);
    const radius = Math.sqrt(centralRadiusSquared(mass, nu));
    const [x, y] = point.means[0];
    return [ellipseOutline(x, y, { major: Math.sqrt(major) * radius, minor: Math.sqrt(minor) * radius, angle })];
  }
  const threshold = level(parts, mass, fineness);
  // Where the density exceeds the threshold, one of the K components exceeds its K-th part: an ellipse around each.
  const certain = new Float64Array(count);
  const possible = new Float64Array(count);
  for (let k = 0; k < count; k++) {
    const excess = Math.log(flat[STRIDE * k + 5]) - threshold;
    certain[k] = reachOf(excess, nu);
    possible[k] = reachOf(excess + Math.log(count), nu);
  }
  // In coordinates where the leading component is a unit circle around 0.
  const [x0, y0, l00, l10, l11] = roots[0];
  const [w0, w1, w2] = flat.subarray(2, 5);
  const lines: [number[], number[]] = [[], []];
  const each = Math.max(Math.floor(fineness.lines / possible.filter((squared) => squared > 0).length), 14);
  roots.forEach(([x, y, r00, r10, r11], k) => {
    if (!(possible[k] > 0)) return;
    const reach = 1.02 * Math.sqrt(possible[k]);
    const dx = x - x0;
    const centre = [w0 * dx, w1 * dx + w2 * (y - y0)];
    [w0 * r00, Math.hypot(w1 * r00 + w2 * r10, w2 * r11)].forEach((width, axis) => {
      for (let i = 0; i < each; i++) lines[axis].push(centre[axis] + reach * width * ((2 * i) / (each - 1) - 1));
    });
  });
  const [xs, ys] = lines.map((own) => Float64Array.from(own).sort());
  const columns = xs.length;
  const places = new Float64Array(2 * columns * ys.length);
  const inside = new Uint8Array(columns * ys.length);
  const limit = Math.exp(threshold);
  for (let j = 0; j < ys.length; j++) {
    for (let i = 0; i < columns; i++) {
      const at = j * columns + i;
      const x = x0 + l00 * xs[i];
      const y = y0 + l10 * xs[i] + l11 * ys[j];
      places[2 * at] = x;
      places[2 * at + 1] = y;
      // Most places lie where one component is enough by itself, or where all together cannot be.
      let [clear, open] = [false, false];
      for (let k = 0; k < count && !clear; k++) {
        const own = STRIDE * k;
        const dx = x - flat[own];
        const u = flat[own + 2] * dx;
        const v = flat[own + 3] * dx + flat[own + 4] * (y - flat[own + 1]);
        const squared = u * u + v * v;
        if (squared < certain[k]) clear = true;
        else if (squared < possible[k]) open = true;
      }
      inside[at] = clear || (open && density(parts, x, y) > limit) ? 1 : 0;
    }
  }
  return outlines(inside, columns, ys.length)
    .map((pairs) => onLevel(parts, threshold, pairs, places, fineness.steps))
    .sort((a, b) => Math.abs(area(b)) - Math.abs(area(a)));
}

/** The squared distance within which a component exceeds a threshold by the log of its peak over it; 0 or less if nowhere. */
const reachOf = (excess: number, nu: number): number =>
  nu === Infinity ? 2 * excess : nu * Math.expm1((2 / (nu + 2)) * excess);

/** Vertices on an ellipse. */
export function ellipseOutline(x: number, y: number, { major, minor, angle }: Ellipse): Outline {
  const found = new Float64Array(2 * OUTLINE);
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  for (let i = 0; i < OUTLINE; i++) {
    const turn = (i * 2 * Math.PI) / OUTLINE;
    const [u, v] = [major * Math.cos(turn), minor * Math.sin(turn)];
    found[2 * i] = x + u * c - v * s;
    found[2 * i + 1] = y + u * s + v * c;
  }
  return found;
}

/** Area of a polygon, negative when it turns the other way. */
export function area(polygon: Outline): number {
  let sum = 0;
  for (let i = 0; i < polygon.length; i += 2) {
    const next = (i + 2) % polygon.length;
    sum += polygon[i] * polygon[next + 1] - polygon[i + 1] * polygon[next];
  }
  return sum / 2;
}

/**
 * The ellipse around the leading mean, in the shape of the leading component, that holds a mass of the whole law
 * (`regions.ellipse_axes`).
 */
export function ellipseOf(point: Mixture, mass: number): Ellipse {
  const { major, minor, angle } = axes2(point.scatters[0]);
  let radius = Math.sqrt(centralRadiusSquared(mass, point.nu));
  const parts = componentsOf(point, FINE.negligible);
  if (parts.count > 1) {
    const excess = (logRatio: number): number => massWithin(parts, radius * Math.exp(logRatio)) - mass;
    let [low, high] = [0, 0];
    while (excess(low) > 0) low -= 1;
    while (excess(high) < 0 && high < 50) high += 1;
    for (let i = 0; i < 40; i++) {
      const middle = (low + high) / 2;
      if (excess(middle) > 0) high = middle;
      else low = middle;
    }
    radius *= Math.exp((low + high) / 2);
  }
  return { major: radius * Math.sqrt(major), minor: radius * Math.sqrt(minor), angle };
}

/**
 * Probability of the leading component's ellipse of a radius, in its own units: the flux of the field M(|z|) z / (2 pi |z|^2)
 * out of it, M the mass of a component's central circle through z (`regions.disc_probability`).
 */
function massWithin({ count, nu, weights, roots, flat }: Components, radius: number): number {
  const [x0, y0, l00, l10, l11] = roots[0];
  let sum = weights[0] * centralMass(radius * radius, nu);
  for (let k = 1; k < count; k++) {
    const [px, py, w0, w1, w2] = flat.subarray(STRIDE * k, STRIDE * k + 5);
    const [ox, oy] = [w0 * (x0 - px), w1 * (x0 - px) + w2 * (y0 - py)];
    let flux = 0;
    for (let i = 0; i < RIM; i++) {
      const turn = (i * 2 * Math.PI) / RIM;
      const [c, s] = [radius * Math.cos(turn), radius * Math.sin(turn)];
      const [x, y] = [ox + w0 * l00 * c, oy + w1 * l00 * c + w2 * (l10 * c + l11 * s)];
      const [tx, ty] = [-w0 * l00 * s, -w1 * l00 * s + w2 * (-l10 * s + l11 * c)];
      const squared = x * x + y * y;
      flux += (squared > 1e-12 ? centralMass(squared, nu) / squared : 0.5) * (x * ty - y * tx);
    }
    sum += weights[k] * Math.min(Math.max(flux / RIM, 0), 1);
  }
  return sum;
}

// Marching squares: edges (0 top, 1 right, 2 bottom, 3 left) that an outline enters and leaves a cell by, with the inside on
// its left, for corners inside as bits: 1 top left, 2 top right, 4 bottom right, 8 bottom left.
const STEPS: readonly (readonly [number, number])[][] = [
  [], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 1], [2, 3]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], [],
];

/** Outlines of a mask whose border is outside, each the pairs of grid places that it passes between. */
function outlines(inside: Uint8Array, columns: number, rows: number): number[][] {
  // An edge goes by its first place, times two, plus one when it leads downwards.
  const following = new Map<number, number>();
  for (let j = 0; j + 1 < rows; j++) {
    for (let i = 0; i + 1 < columns; i++) {
      const a = j * columns + i;
      const d = a + columns;
      const code = inside[a] + 2 * inside[a + 1] + 4 * inside[d + 1] + 8 * inside[d];
      if (code === 0 || code === 15) continue;
      const edges = [2 * a, 2 * (a + 1) + 1, 2 * d, 2 * a + 1];
      for (const [enters, leaves] of STEPS[code]) following.set(edges[enters], edges[leaves]);
    }
  }
  const found: number[][] = [];
  for (const first of following.keys()) {
    const outline: number[] = [];
    let edge: number | undefined = first;
    while (edge !== undefined) {
      outline.push(edge);
      const next: number | undefined = following.get(edge);
      following.delete(edge);
      edge = next === first ? undefined : next;
    }
    found.push(outline.flatMap((one) => [one >> 1, one & 1 ? (one >> 1) + columns : (one >> 1) + 1]));
  }
  return found;
}

/** The places between pairs of grid places where the density passes the threshold: false position on its logarithm. */
function onLevel(
  parts: Components, threshold: number, pairs: readonly number[], places: Float64Array, steps: number,
): Outline {
  const found = new Float64Array(pairs.length);
  for (let i = 0; i < pairs.length; i += 2) {
    const [ax, ay] = [places[2 * pairs[i]], places[2 * pairs[i] + 1]];
    const [dx, dy] = [places[2 * pairs[i + 1]] - ax, places[2 * pairs[i + 1] + 1] - ay];
    const excess = (t: number): number => Math.log(density(parts, ax + t * dx, ay + t * dy)) - threshold;
    let [low, high, below, above] = [0, 1, excess(0), excess(1)];
    let t = below / (below - above);
    for (let step = 0; step < steps && Math.abs(below - above) > 0; step++) {
      const value = excess(t);
      // An end that stays counts half (the Illinois rule), so that both ends move.
      if (value > 0 === below > 0) [low, below, above] = [t, value, above / 2];
      else [high, above, below] = [t, value, below / 2];
      t = low + ((high - low) * below) / (below - above);
    }
    found[i] = ax + t * dx;
    found[i + 1] = ay + t * dy;
  }
  return found;
}
