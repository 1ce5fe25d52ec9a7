/**
 * Where one joint lies, when its law may have two centres: the ellipse and the outlines that hold a mass (posecov/regions.py,
 * posecov/density.py in two dimensions). All functions take the `Mixture` of one point, D = 2.
 */

import { centralMass, centralRadiusSquared, fall } from "./law";
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
}

/** As posecov/density.py. */
export const FINE: Fineness = { lines: 160, angles: 48, strata: 16 };
/** For the moments in which a joint is dragged. */
export const QUICK: Fineness = { lines: 50, angles: 8, strata: 12 };

const OUTLINE = 96;
const NEGLIGIBLE = 1e-5;

/** Components with what their density needs: whitener rows, log peak. */
interface Component {
  weight: number;
  x: number;
  y: number;
  /** L^-1 of the scatter's lower factor L: [1/l00, -l10/(l00 l11), 1/l11]. */
  whitener: [number, number, number];
  root: [number, number, number];
  /** Density at the centre, times the weight. */
  peak: number;
}

function components(point: Mixture): Component[] {
  const found: Component[] = [];
  point.means.forEach((mean, k) => {
    const weight = point.weights[k];
    if (k > 0 && !(weight > NEGLIGIBLE)) return;
    const l = cholesky(point.scatters[k], 2);
    const [l00, l10, l11] = [l[0], l[2], l[3]];
    found.push({
      weight, x: mean[0], y: mean[1], root: [l00, l10, l11],
      whitener: [1 / l00, -l10 / (l00 * l11), 1 / l11],
      peak: weight / (2 * Math.PI * l00 * l11),
    });
  });
  return found;
}

/** Density of the law at a place. */
function density(parts: readonly Component[], nu: number, x: number, y: number): number {
  let sum = 0;
  for (const { x: cx, y: cy, whitener, peak } of parts) {
    const dx = x - cx;
    const u = whitener[0] * dx;
    const v = whitener[1] * dx + whitener[2] * (y - cy);
    sum += peak * Math.exp(fall(u * u + v * v, nu, 2));
  }
  return sum;
}

/**
 * Density at the boundary of the region of highest density that holds a mass.
 *
 * Points stand for the law: rays of every component at evenly spaced angles, quantiles of its radius on them, stratified,
 * shifted from ray to ray by the golden ratio, with finer strata towards the tail.
 */
function level(parts: readonly Component[], nu: number, mass: number, { angles, strata }: Fineness): number {
  const rays = 2 * angles;
  const { radii, widths } = quantiles(nu, rays, strata);
  const heights = new Float64Array(parts.length * rays * strata);
  const shares = new Float64Array(heights.length);
  let at = 0;
  for (const part of parts) {
    for (let ray = 0; ray < rays; ray++) {
      // In the order of density.py: axis by axis, first the one direction, then the other.
      const turn = (((ray >> 1) + 0.5) * Math.PI) / angles + (ray & 1 ? Math.PI : 0);
      const [c, s] = [Math.cos(turn), Math.sin(turn)];
      const [rx, ry] = [part.root[0] * c, part.root[1] * c + part.root[2] * s];
      for (let i = 0; i < strata; i++) {
        const radius = radii[ray * strata + i];
        heights[at] = density(parts, nu, part.x + radius * rx, part.y + radius * ry);
        shares[at++] = (part.weight * widths[i]) / rays;
      }
    }
  }
  const order = Uint32Array.from(heights, (_, i) => i).sort((a, b) => heights[a] - heights[b]);
  // Log density interpolated over what lies below it.
  let [below, before, lower] = [0, 0, heights[order[0]]];
  for (const index of order) {
    const middle = below + shares[index] / 2;
    if (middle >= 1 - mass) {
      const t = middle > before ? (1 - mass - before) / (middle - before) : 0;
      return Math.exp(Math.log(lower) + t * (Math.log(heights[index]) - Math.log(lower)));
    }
    [before, lower] = [middle, heights[index]];
    below += shares[index];
  }
  return lower;
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
  const parts = components(point);
  if (parts.length === 1) {
    const { major, minor, angle } = axes2(point.scatters[0]);
    const radius = Math.sqrt(centralRadiusSquared(mass, point.nu));
    return [ellipseOutline(parts[0].x, parts[0].y, { major: Math.sqrt(major) * radius, minor: Math.sqrt(minor) * radius, angle })];
  }
  const nu = point.nu;
  const threshold = level(parts, nu, mass, fineness);
  // In coordinates where the leading component is a unit circle around 0.
  const { x: x0, y: y0, root, whitener } = parts[0];
  const lines: [number[], number[]] = [[], []];
  const certain = parts.map((part) => reachOf(part.peak / threshold, nu));
  const possible = parts.map((part) => reachOf((part.peak * parts.length) / threshold, nu));
  const count = Math.max(Math.floor(fineness.lines / possible.filter((squared) => squared > 0).length), 14);
  parts.forEach((part, k) => {
    // Where the density exceeds the threshold, one of the K components exceeds its K-th part: an ellipse around each.
    if (!(possible[k] > 0)) return;
    const reach = 1.02 * Math.sqrt(possible[k]);
    const dx = part.x - x0;
    const centre = [whitener[0] * dx, whitener[1] * dx + whitener[2] * (part.y - y0)];
    const a = [whitener[0] * part.root[0], 0];
    const b = [whitener[1] * part.root[0] + whitener[2] * part.root[1], whitener[2] * part.root[2]];
    [Math.hypot(...a), Math.hypot(...b)].forEach((width, axis) => {
      for (let i = 0; i < count; i++) {
        lines[axis].push(centre[axis] + reach * width * ((2 * i) / (count - 1) - 1));
      }
    });
  });
  const xs = Float64Array.from(lines[0]).sort();
  const ys = Float64Array.from(lines[1]).sort();
  const columns = xs.length;
  const places = new Float64Array(2 * columns * ys.length);
  const inside = new Uint8Array(columns * ys.length);
  for (let j = 0; j < ys.length; j++) {
    for (let i = 0; i < columns; i++) {
      const at = j * columns + i;
      const x = x0 + root[0] * xs[i];
      const y = y0 + root[1] * xs[i] + root[2] * ys[j];
      places[2 * at] = x;
      places[2 * at + 1] = y;
      // Most places lie where one component is enough by itself, or where all together cannot be.
      let [clear, open] = [false, false];
      for (let k = 0; k < parts.length && !clear; k++) {
        const { whitener: w, x: cx, y: cy } = parts[k];
        const u = w[0] * (x - cx);
        const v = w[1] * (x - cx) + w[2] * (y - cy);
        const squared = u * u + v * v;
        if (squared < certain[k]) clear = true;
        else if (squared < possible[k]) open = true;
      }
      inside[at] = clear || (open && density(parts, nu, x, y) > threshold) ? 1 : 0;
    }
  }
  const steps = fineness === QUICK ? 1 : 8;
  return outlines(inside, columns, ys.length)
    .map((pairs) => onLevel(parts, nu, threshold, pairs, places, steps))
    .sort((a, b) => Math.abs(area(b)) - Math.abs(area(a)));
}

/** The squared distance within which a component of this peak over a threshold exceeds it; 0 or less where it never does. */
const reachOf = (ratio: number, nu: number): number =>
  nu === Infinity ? 2 * Math.log(ratio) : nu * Math.expm1((2 / (nu + 2)) * Math.log(ratio));

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
  const parts = components(point);
  if (parts.length > 1) {
    const excess = (logRatio: number): number => massWithin(parts, point.nu, radius * Math.exp(logRatio)) - mass;
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
function massWithin(parts: readonly Component[], nu: number, radius: number): number {
  const lead = parts[0];
  let sum = 0;
  const count = 1024;
  parts.forEach((part, k) => {
    if (k === 0) {
      sum += part.weight * centralMass(radius * radius, nu);
      return;
    }
    const [w0, w1, w2] = part.whitener;
    const seen = (x: number, y: number): [number, number] => [w0 * x, w1 * x + w2 * y];
    const [ox, oy] = seen(lead.x - part.x, lead.y - part.y);
    let flux = 0;
    for (let i = 0; i < count; i++) {
      const turn = (i * 2 * Math.PI) / count;
      const [c, s] = [Math.cos(turn), Math.sin(turn)];
      const [px, py] = seen(radius * lead.root[0] * c, radius * (lead.root[1] * c + lead.root[2] * s));
      const [tx, ty] = seen(-radius * lead.root[0] * s, radius * (-lead.root[1] * s + lead.root[2] * c));
      const [x, y] = [ox + px, oy + py];
      const squared = x * x + y * y;
      flux += (squared > 1e-12 ? centralMass(squared, nu) / squared : 0.5) * (x * ty - y * tx);
    }
    sum += part.weight * Math.min(Math.max(flux / count, 0), 1);
  });
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
  parts: readonly Component[], nu: number, threshold: number, pairs: readonly number[], places: Float64Array, steps: number,
): Outline {
  const found = new Float64Array(pairs.length);
  const level = Math.log(threshold);
  for (let i = 0; i < pairs.length; i += 2) {
    const [ax, ay] = [places[2 * pairs[i]], places[2 * pairs[i] + 1]];
    const [dx, dy] = [places[2 * pairs[i + 1]] - ax, places[2 * pairs[i + 1] + 1] - ay];
    const excess = (t: number): number => Math.log(density(parts, nu, ax + t * dx, ay + t * dy)) - level;
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
