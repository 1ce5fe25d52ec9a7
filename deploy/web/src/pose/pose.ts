/** One person's pose: keypoints with a joint law, and the questions that it answers (posecov/pose.py). */

import { following } from "./following";
import * as mixture from "./mixture";
import type { Mixture } from "./mixture";
import { contours, ellipseOf, type Ellipse, type Fineness, type Outline } from "./regions";
import type { Skeleton } from "./skeleton";

const LEAST_ALTERNATIVE = 1e-3;

/** What a network says about one person, in the pixels of the picture. */
export interface Outputs {
  /** x0, y0, x1, y1, ... */
  keypoints: ArrayLike<number>;
  /** (2J, 2J) of the leading component. */
  scatter: ArrayLike<number>;
  /** One for each exchange. */
  weights: ArrayLike<number>;
}

/** What a model says about its law. */
export interface LawFacts {
  skeleton: Skeleton;
  /** null for a Gaussian, as JSON has it. */
  degrees_of_freedom: number | null;
  exchanges: { name: string; permutation: number[] }[];
}

/** Everything that is asked of it is worked out once. */
export class Pose {
  readonly joints: number;
  private readonly kept = new Map<string, unknown>();
  /** Joints that are not known; the law's coordinates are theirs, two each. */
  readonly free: readonly number[];

  private constructor(
    readonly facts: LawFacts,
    readonly law: Mixture,
    readonly known: ReadonlyMap<number, readonly [number, number]>,
    readonly box: readonly number[] | null,
  ) {
    this.joints = facts.skeleton.keypoints.length;
    this.free = Array.from({ length: this.joints }, (_, joint) => joint).filter((joint) => !known.has(joint));
  }

  /** The pose of a prediction. Numbers are kept in float32's digits, as Python keeps them. */
  static of(facts: LawFacts, outputs: Outputs, box: readonly number[] | null = null): Pose {
    const nu = facts.degrees_of_freedom ?? Infinity;
    const joints = facts.skeleton.keypoints.length;
    const identity = Array.from({ length: joints }, (_, joint) => joint);
    const permutations = facts.exchanges.length ? facts.exchanges.map((exchange) => exchange.permutation) : [identity];
    const weights = facts.exchanges.length ? outputs.weights : [1];
    const n = 2 * joints;
    const scatter = Float64Array.from(outputs.scatter, (value, i) => {
      return Math.fround((value + outputs.scatter[(i % n) * n + Math.floor(i / n)]) / 2);
    });
    const mean = Float64Array.from(outputs.keypoints, Math.fround);
    return new Pose(facts, mixture.ofExchanges(mean, scatter, nu, weights, permutations), new Map(), box);
  }

  private once<T>(name: string, make: () => T): T {
    if (!this.kept.has(name)) this.kept.set(name, make());
    return this.kept.get(name) as T;
  }

  get skeleton(): Skeleton {
    return this.facts.skeleton;
  }

  /** x0, y0, x1, y1, ... in pixels of the picture. */
  get keypoints(): Float64Array {
    return this.once("keypoints", () => this.place(this.law.means[0]));
  }

  /** Keypoints of a component by the mean of its free coordinates. */
  private place(mean: Float64Array): Float64Array {
    const found = new Float64Array(2 * this.joints);
    this.free.forEach((joint, i) => found.set(mean.subarray(2 * i, 2 * i + 2), 2 * joint));
    for (const [joint, point] of this.known) found.set(point, 2 * joint);
    return found;
  }

  /** (2J, 2J) second moments about the keypoints, pixels^2; 0 in the rows of known joints. */
  get covariance(): Float64Array {
    return this.spread(mixture.covariance(this.law));
  }

  /** (2J, 2J) scatter of the leading component, 0 in the rows of known joints. */
  get scatter(): Float64Array {
    return this.once("scatter", () => this.spread(this.law.scatters[0]));
  }

  private spread(matrix: Float64Array): Float64Array {
    const n = 2 * this.joints;
    const rows = this.free.flatMap((joint) => [2 * joint, 2 * joint + 1]);
    const found = new Float64Array(n * n);
    rows.forEach((row, i) => rows.forEach((column, j) => (found[row * n + column] = matrix[i * rows.length + j])));
    return found;
  }

  /** Standard deviation of each joint in pixels, averaged over directions. */
  get sigma(): number[] {
    const [covariance, n] = [this.covariance, 2 * this.joints];
    return Array.from({ length: this.joints }, (_, j) => {
      return Math.sqrt((covariance[2 * j * n + 2 * j] + covariance[(2 * j + 1) * n + 2 * j + 1]) / 2);
    });
  }

  /** Expected distance in pixels of each joint from its keypoint, 0 for a known one. */
  get expectedError(): number[] {
    return this.once("expectedError", () =>
      Array.from({ length: this.joints }, (_, joint) => {
        const point = this.point(joint);
        return point ? mixture.expectedError(point) : 0;
      }),
    );
  }

  /** The law of one joint that is not known, else null. */
  point(joint: number): Mixture | null {
    const index = this.free.indexOf(joint);
    return index < 0 ? null : this.once(`point ${joint}`, () => mixture.pointLaw(this.law, index));
  }

  /** Outlines of the smallest region that holds the joint with a probability; none for a known joint. */
  region(joint: number, mass: number, fineness?: Fineness): Outline[] {
    const point = this.point(joint);
    return point ? contours(point, mass, fineness) : [];
  }

  /** The ellipse around the keypoint that holds the joint with a probability; its axes are 0 for a known joint. */
  ellipse(joint: number, mass: number): Ellipse {
    const point = this.point(joint);
    return point ? ellipseOf(point, mass) : { major: 0, minor: 0, angle: Math.PI / 2 };
  }

  /** Poses with left and right of some limb exchanged, with names and probabilities, the likeliest first. */
  get alternatives(): { pose: Pose; probability: number; exchanges: number[] }[] {
    if (this.law.weights.length < 2 || !this.free.length) return [];
    return mixture
      .hypotheses(this.law)
      .slice(1)
      .filter(({ probability }) => probability >= LEAST_ALTERNATIVE)
      .map(({ components, probability }) => ({
        pose: new Pose(this.facts, mixture.part(this.law, components), this.known, this.box),
        probability,
        exchanges: components.map((k) => this.law.exchanges[k]),
      }));
  }

  /** This pose once some more joints are known: the others move and narrow, or widen if the evidence fits badly. */
  condition(known: ReadonlyMap<number, readonly [number, number]>): Pose {
    const fresh = [...known.keys()].filter((joint) => !this.known.has(joint)).sort((a, b) => a - b);
    if (!fresh.length) return this;
    const rows = fresh.flatMap((joint) => {
      const index = this.free.indexOf(joint);
      return [2 * index, 2 * index + 1];
    });
    const law = mixture.condition(this.law, rows, fresh.flatMap((joint) => [...known.get(joint)!]));
    const all = new Map([...this.known, ...fresh.map((joint) => [joint, known.get(joint)!] as const)]);
    return new Pose(this.facts, law, new Map([...all].sort(([a], [b]) => a - b)), this.box);
  }

  /** How the others follow a joint that is not known. */
  following(joint: number): { gains: number[][]; correlations: number[] } {
    return following(this.scatter, joint);
  }
}
