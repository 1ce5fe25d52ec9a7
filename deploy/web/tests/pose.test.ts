import { describe, expect, it } from "vitest";
import { expectedDistance } from "../src/pose/law";
import { Pose } from "../src/pose/pose";
import { area, FINE, QUICK } from "../src/pose/regions";
import sample from "../src/sample.json";
import fixture from "./fixture.json";

const facts = sample.model as unknown as ConstructorParameters<typeof Object>[0] as never;
const names: string[] = sample.model.skeleton.keypoints;
const prediction = (): Pose =>
  Pose.of(facts, { keypoints: sample.keypoints.flat(), scatter: sample.scatter.flat(), weights: sample.weights }, sample.box);

const close = (found: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number): void => {
  expect(found.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) expect(Math.abs(found[i] - wanted[i]), `entry ${i}`).toBeLessThanOrEqual(tolerance);
};

describe.each(fixture.poses.map((row) => [JSON.stringify(row.known), row] as const))("a pose that knows %s", (_, row) => {
  const known = new Map(Object.entries(row.known).map(([name, [x, y]]) => [names.indexOf(name), [x, y] as const]));
  const pose = prediction().condition(known);
  const free = pose.free.map((joint) => names[joint]);

  it("has Python's keypoints, covariance, weights and degrees of freedom", () => {
    close(pose.keypoints, row.keypoints.flat(), 2e-3);
    const wanted = row.covariance.flat();
    const scale = Math.max(...wanted.map(Math.abs));
    close(pose.covariance, wanted, 1e-5 * scale);
    close(pose.law.weights, row.weights, 1e-5);
    expect(pose.law.nu).toBeCloseTo(row.degrees_of_freedom, 9);
  });

  it("has Python's expected errors", () => close(pose.expectedError, row.expected_error, 2e-3));

  it("has Python's alternatives", () => {
    const found = pose.alternatives;
    expect(found.length).toBe(row.alternatives.length);
    found.forEach((alternative, i) => {
      expect(alternative.probability).toBeCloseTo(row.alternatives[i].probability, 5);
      close(alternative.pose.keypoints, row.alternatives[i].keypoints.flat(), 2e-3);
    });
  });

  it.each(["0.5", "0.9"] as const)("has Python's ellipses and regions of mass %s", (mass) => {
    for (const name of free) {
      const joint = names.indexOf(name);
      const wanted = (row.ellipses[mass] as Record<string, number[]>)[name];
      const { major, minor, angle } = pose.ellipse(joint, Number(mass));
      expect(major / wanted[0], name).toBeCloseTo(1, 4);
      expect(minor / wanted[1], name).toBeCloseTo(1, 4);
      expect(Math.abs(Math.sin(angle - wanted[2])), name).toBeLessThan(1e-3);
      const areas = (row.regions[mass] as Record<string, number[]>)[name];
      const sum = (parts: number[]): number => parts.reduce((total, part) => total + part, 0);
      const found = pose.region(joint, Number(mass), FINE).map(area);
      expect(Math.abs(sum(found)) / Math.abs(sum(areas)), name).toBeGreaterThan(0.99);
      expect(Math.abs(sum(found)) / Math.abs(sum(areas)), name).toBeLessThan(1.01);
      // What is drawn while a joint is dragged is less fine, but no other thing.
      const quick = pose.region(joint, Number(mass), QUICK).map(area);
      expect(Math.abs(sum(quick)) / Math.abs(sum(areas)), name).toBeGreaterThan(0.93);
      expect(Math.abs(sum(quick)) / Math.abs(sum(areas)), name).toBeLessThan(1.07);
    }
  });

  it("says as Python how others follow a joint", () => {
    const { gains, correlations } = pose.following(pose.free[0]);
    close(gains.flat(), row.gains.flat(2), 1e-4);
    close(correlations, row.correlations, 1e-5);
  });
});

describe("conditioning", () => {
  it("is the same in one step and in several", () => {
    const [a, b] = [[0, [100, 400]], [11, [300, 320]]] as [number, [number, number]][];
    const once = prediction().condition(new Map([a, b]));
    const twice = prediction().condition(new Map([a])).condition(new Map([b]));
    close(once.keypoints, twice.keypoints, 1e-6);
    close(once.law.weights, twice.law.weights, 1e-9);
  });

  it("leaves nothing to say when every joint is known", () => {
    const all = new Map(names.map((_, joint) => [joint, [joint, 2 * joint] as const]));
    const pose = prediction().condition(all);
    expect(pose.expectedError).toEqual(names.map(() => 0));
    expect(pose.alternatives).toEqual([]);
  });
});

it("expects Python's distances, also of a Gaussian and beside the mean", () => {
  for (const { nu, offset, scatter, distance } of fixture.expected_distances) {
    expect(expectedDistance(offset[0], offset[1], scatter.flat(), nu ?? Infinity)).toBeCloseTo(distance, 6);
  }
});
