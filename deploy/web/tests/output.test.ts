import { expect, it } from "vitest";
import { pictureDocument, short } from "../src/output";
import { Pose } from "../src/pose/pose";
import { Session } from "../src/session";
import sample from "../src/sample.json";
import fixture from "./fixture.json";

const names: string[] = sample.model.skeleton.keypoints;
const prediction = (): Pose =>
  Pose.of(sample.model as never, { keypoints: sample.keypoints.flat(), scatter: sample.scatter.flat(), weights: sample.weights }, sample.box);

/** Same keys in the same order, same words, numbers to a small part of themselves. */
function expectAlike(found: unknown, wanted: unknown, where: string): void {
  if (typeof wanted === "number") {
    expect(Math.abs((found as number) - wanted), where).toBeLessThan(2e-4 * Math.max(Math.abs(wanted), 20));
  } else if (wanted !== null && typeof wanted === "object") {
    expect(Object.keys(found as object), where).toEqual(Object.keys(wanted));
    for (const key of Object.keys(wanted)) {
      expectAlike((found as Record<string, unknown>)[key], (wanted as Record<string, unknown>)[key], `${where}.${key}`);
    }
  } else expect(found, where).toBe(wanted);
}

it.each([
  ["as predicted", fixture.document, []],
  ["with fixed joints", fixture.conditioned_document, Object.entries(fixture.poses[2].known)],
] as const)("writes what posecov image writes, %s", (_, wanted, known) => {
  const pose = prediction().condition(new Map(known.map(([name, [x, y]]) => [names.indexOf(name), [x, y] as const])));
  const found = pictureDocument("sample.jpg", sample.width, sample.height, sample.model.name, 0.5, pose);
  expectAlike(JSON.parse(JSON.stringify(found)), wanted, "document");
});

it("writes a picture without people", () => {
  expect(pictureDocument("a.png", 10, 20, "m", 0.9, null)).toEqual({ image: "a.png", width: 10, height: 20, model: "m", mass: 0.9, people: [] });
});

it("writes the fewest digits that give the same float32", () => {
  expect(short(0.1)).toBe(0.1);
  expect(short(Math.fround(1 / 3))).toBe(0.33333334);
  for (const value of [123.456789, -7e-9, 16777217, Math.PI * 1e5]) expect(Math.fround(short(value))).toBe(Math.fround(value));
});

it("undoes fixes, moves, frees and new poses one by one", () => {
  const session = new Session();
  session.start(prediction());
  const base = session.pose;
  session.remember();
  session.fix(6, [100, 400]);
  session.fix(6, [110, 410]);
  session.remember();
  session.fix(11, [300, 300]);
  expect([...session.fixed.keys()]).toEqual([6, 11]);
  expect(session.free(6)).toBe(true);
  expect(session.free(6)).toBe(false);
  expect([...session.fixed.keys()]).toEqual([11]);
  session.replace(prediction());
  expect(session.fixed.size).toBe(0);
  session.undo();
  expect([...session.fixed.keys()]).toEqual([11]);
  session.undo();
  expect([...session.pose!.known.keys()]).toEqual([6, 11]);
  session.undo();
  expect(session.fixed.get(6)).toEqual([110, 410]);
  session.undo();
  expect(session.pose!.keypoints).toEqual(base!.keypoints);
  expect(session.undo()).toBe(false);
});
