/**
 * Finding one person in a picture without a detector (posecov/search.py): windows all over it, each re-cropped around what was
 * found in it; the place is kept in which the model believes and whose joints are the surest and stay where they are when the crop is
 * moved.
 */

import type { Box } from "./geometry";

/** Poses that a network found, in pixels of the picture. */
export interface Found {
  /** x0, y0, x1, y1, ... */
  keypoints: Float64Array;
  /** (2J, 2J) second moments without exchanges. */
  covariance: Float64Array;
  /** Probability that somebody fills the box; null from a model that does not tell. */
  presence: number | null;
}

export type Predict = (boxes: readonly Box[]) => Promise<Found[]>;

const WINDOWS = 24;
const KEPT = 6;
const ROUNDS = 4;
const SETTLED = 0.05;
const SAME = 0.5;
const SMALLEST = 0.15;
const MARGIN = 0.05;
const WIDEST = 0.1;
// Probability, and consistency where a model does not tell the presence, from which somebody is believed.
const LEAST = 0.3;
const LEAST_CONSISTENCY = 0.474;
// Weights of 1, the presence's logit and the consistency beyond EVEN, and the surest that they may be together.
const BOTH = [0.39, 0.58, 8.1];
const EVEN = 0.54;
const SUREST = [0.01, 0.99];
const LARGER = 0.25;
const SHIFT = 0.1;

// The same below which somebody who is followed is given up (posecov/video/people.py).
const LOST = 0.03;
const LOST_CONSISTENCY = 0.3;

/** The box of the person in whom the model believes most, or null. */
export async function findPerson(predict: Predict, width: number, height: number, padding: number): Promise<Box | null> {
  let boxes = distinct(await predict(windows(width, height, padding)), width, height);
  for (let round = 0; round < ROUNDS && boxes.length; round++) {
    const moved = distinct(await predict(boxes), width, height);
    const settled = moved.length === boxes.length && moved.every((box, i) => edgeMove(boxes[i], box) <= SETTLED);
    boxes = moved;
    if (settled) break;
  }
  if (!boxes.length) return null;
  const found = await predict(boxes);
  const presences = presencesOf(found);
  const consistencies = await consistencyOf(predict, boxes, found);
  const least = presences ? LEAST : LEAST_CONSISTENCY;
  let best = -1;
  let score = -1;
  consistencies.forEach((consistency, i) => {
    const belief = presences ? together(presences[i], consistency) : consistency;
    const size = Math.min(Math.max(boxes[i][2], boxes[i][3]) / Math.min(width, height), 1);
    const own = belief >= least ? belief * size ** LARGER : -1;
    if (own > score) [best, score] = [i, own];
  });
  return best < 0 ? null : boxes[best];
}

/** Whether somebody who was in the box is still there. */
export async function stillThere(predict: Predict, box: Box): Promise<boolean> {
  const found = await predict([box]);
  const presences = presencesOf(found);
  return presences ? presences[0] >= LOST : (await consistencyOf(predict, [box], found))[0] >= LOST_CONSISTENCY;
}

/** Probability that somebody is there, of the model's own and of the consistency. */
export function together(presence: number, consistency: number): number {
  const within = (value: number): number => Math.min(Math.max(value, SUREST[0]), SUREST[1]);
  const own = within(presence);
  return within(1 / (1 + Math.exp(-(BOTH[0] + BOTH[1] * Math.log(own / (1 - own)) + BOTH[2] * (consistency - EVEN)))));
}

function presencesOf(found: readonly Found[]): number[] | null {
  const told = found.map(({ presence }) => presence).filter((presence) => presence !== null);
  return told.length === found.length ? told : null;
}

/** Boxes whose crops are the whole picture and overlapping square windows of several sizes in it. */
export function windows(width: number, height: number, padding: number): Box[] {
  const shorter = Math.min(width, height);
  const squares = [{ x: width / 2, y: height / 2, side: Math.max(width, height) }];
  for (const share of [1, 0.67, 0.45]) {
    const side = share * shorter;
    let [across, along] = [width, height].map((length) => 1 + Math.ceil(Math.max(length - side, 0) / (0.6 * side) - 0.25));
    if (share === 1) [across, along] = [Math.min(across, WINDOWS - 1), Math.min(along, WINDOWS - 1)];
    if (squares.length + across * along > WINDOWS) break;
    if (share === 1 && across === 1 && along === 1) continue;
    for (const y of spreadOut(height, side, along)) for (const x of spreadOut(width, side, across)) squares.push({ x, y, side });
  }
  return squares.map(({ x, y, side }) => {
    const own = side / padding;
    return [x - 0.5 - own / 2, y - 0.5 - own / 2, own, own] as const;
  });
}

/**
 * How certain poses are, and how well they hold still when their crops are moved by a tenth of their side, in 0..1. `seen` is what
 * was found in the boxes.
 */
export async function consistencyOf(predict: Predict, boxes: readonly Box[], seen: readonly Found[]): Promise<number[]> {
  const shifts = boxes.map((box) => SHIFT * Math.max(box[2], box[3]));
  const directions = [[1, 0], [-1, 0], [0, 1], [0, -1]];
  const trials = directions.flatMap(([dx, dy]) =>
    boxes.map((box, i) => [box[0] + shifts[i] * dx, box[1] + shifts[i] * dy, box[2], box[3]] as const),
  );
  const moved = await predict(trials);
  return boxes.map((_, i) => {
    const own = seen[i].keypoints;
    const distances = directions.flatMap((_, d) => {
      const other = moved[d * boxes.length + i].keypoints;
      return Array.from({ length: own.length / 2 }, (_, j) => {
        return Math.hypot(other[2 * j] - own[2 * j], other[2 * j + 1] - own[2 * j + 1]);
      });
    });
    const stays = 1 - median(distances) / shifts[i];
    const certain = 1 - uncertainty(seen[i]) / WIDEST;
    return Math.min(Math.max(stays, 0), 1) ** 0.25 * Math.min(Math.max(certain, 0), 1);
  });
}

/** The box around joints and one standard deviation of each, enlarged by 5 % of the longer side. */
export function personBox({ keypoints, covariance }: Pick<Found, "keypoints" | "covariance">): Box {
  const n = keypoints.length;
  const low = [Infinity, Infinity];
  const high = [-Infinity, -Infinity];
  for (let row = 0; row < n; row++) {
    const sigma = Math.sqrt(covariance[row * n + row]);
    low[row % 2] = Math.min(low[row % 2], keypoints[row] - sigma);
    high[row % 2] = Math.max(high[row % 2], keypoints[row] + sigma);
  }
  const grow = MARGIN * Math.max(high[0] - low[0], high[1] - low[1], 1);
  return [low[0] - grow, low[1] - grow, high[0] - low[0] + 2 * grow, high[1] - low[1] + 2 * grow];
}

/** Median standard deviation per axis, of the surer half of the joints, over the longer side of the joints' box. */
function uncertainty({ keypoints, covariance }: Found): number {
  const n = keypoints.length;
  const extent = [0, 1].map((axis) => {
    const values = keypoints.filter((_, row) => row % 2 === axis);
    return Math.max(...values) - Math.min(...values);
  });
  const variances = Array.from({ length: n / 2 }, (_, j) => {
    return (covariance[2 * j * n + 2 * j] + covariance[(2 * j + 1) * n + 2 * j + 1]) / 2;
  }).sort((a, b) => a - b);
  const surer = variances.slice(0, Math.max(n >> 2, 1));
  return Math.sqrt(median(surer)) / (1.2 * Math.max(...extent, 1));
}

/** Boxes of the poses that can be people, most certain first, none like a more certain one. */
function distinct(found: readonly Found[], width: number, height: number): Box[] {
  const kept: Box[] = [];
  const order = found.map((one) => ({ box: personBox(one), doubt: uncertainty(one) })).sort((a, b) => a.doubt - b.doubt);
  for (const { box } of order) {
    if (inside(box, width, height) && kept.every((other) => overlap(box, other) < SAME)) kept.push(box);
  }
  return kept.slice(0, KEPT);
}

/** Whether a box can be a person in this picture: half of it inside, and not too small. */
function inside(box: Box, width: number, height: number): boolean {
  const seen =
    Math.max(Math.min(box[0] + box[2], width - 0.5) - Math.max(box[0], -0.5), 0) *
    Math.max(Math.min(box[1] + box[3], height - 0.5) - Math.max(box[1], -0.5), 0);
  return seen >= 0.5 * box[2] * box[3] && Math.max(box[2], box[3]) >= Math.max(8, SMALLEST * Math.min(width, height));
}

/** Intersection over union. */
function overlap(a: Box, b: Box): number {
  const common =
    Math.max(Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]), 0) *
    Math.max(Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]), 0);
  return common / (a[2] * a[3] + b[2] * b[3] - common);
}

/** Largest move of an edge over the longer side. */
function edgeMove(before: Box, after: Box): number {
  const ends = (box: Box): number[] => [box[0], box[1], box[0] + box[2], box[1] + box[3]];
  const [a, b] = [ends(before), ends(after)];
  return Math.max(...a.map((value, i) => Math.abs(b[i] - value))) / Math.max(after[2], after[3]);
}

function spreadOut(length: number, side: number, count: number): number[] {
  if (count === 1) return [length / 2];
  return Array.from({ length: count }, (_, i) => side / 2 + (i * (length - side)) / (count - 1));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
