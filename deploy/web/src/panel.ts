/** The numbers beside the picture. */

import { element, percent, pixels, twice } from "./dom";
import type { Pose } from "./pose/pose";
import { sideOf, spoken } from "./pose/skeleton";

interface Row {
  item: HTMLLIElement;
  before: HTMLElement;
  now: HTMLElement;
  value: HTMLOutputElement;
}

export class Panel {
  private rows: Row[] = [];
  private readonly list = element("bars");
  /** What else to say about a picture in which nothing is fixed. */
  remark = "";

  /** @param point is called with the joint that the pointer is on, or null. */
  constructor(
    private readonly point: (joint: number | null) => void,
    private readonly other: (pose: Pose | null) => void,
  ) {
    this.list.addEventListener("pointerleave", () => this.point(null));
  }

  /** Make a row for each joint. */
  name(pose: Pose): void {
    const { skeleton } = pose;
    this.list.replaceChildren();
    this.rows = skeleton.keypoints.map((name, joint) => {
      const item = document.createElement("li");
      item.className = sideOf(skeleton, [joint]);
      const label = Object.assign(document.createElement("span"), { className: "name", textContent: spoken(name) });
      const track = Object.assign(document.createElement("span"), { className: "track" });
      const [before, now] = ["before", "now"].map((kind) => Object.assign(document.createElement("i"), { className: kind }));
      const value = document.createElement("output");
      track.append(before, now);
      item.append(label, track, value);
      item.addEventListener("pointerenter", () => this.point(joint));
      return { item, before, now, value };
    });
    // From head to foot, right beside left, as people look at a body.
    const order = ["head", "neck", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"];
    const rank = (name: string): number => {
      const found = order.findIndex((part) => name.includes(part));
      return found < 0 ? order.length : found;
    };
    const indices = skeleton.keypoints.map((_, joint) => joint);
    indices.sort((a, b) => rank(skeleton.keypoints[a]) - rank(skeleton.keypoints[b]) || a - b);
    this.list.append(...indices.map((joint) => this.rows[joint].item));
  }

  /** What is known now, beside what was before joints were fixed. */
  tell(base: Pose | null, pose: Pose | null): void {
    const names = pose?.skeleton.keypoints ?? [];
    const free = pose?.free ?? [];
    const mean = (errors: readonly number[]): number => free.reduce((sum, joint) => sum + errors[joint], 0) / Math.max(free.length, 1);
    const before = base?.expectedError ?? [];
    const now = pose === base ? before : (pose?.expectedError ?? []);
    const most = Math.max(...before, 1e-9);
    this.rows.forEach((row, joint) => {
      const known = !!pose?.known.has(joint);
      row.item.classList.toggle("known", known);
      row.before.style.transform = `scaleX(${Math.min((before[joint] ?? 0) / most, 1)})`;
      row.now.style.transform = `scaleX(${Math.min((now[joint] ?? 0) / most, 1)})`;
      row.value.textContent = known ? "fixed" : pose ? pixels(now[joint]) : "";
    });
    const fixed = [...(pose?.known.keys() ?? [])].map((joint) => spoken(names[joint]));
    const changed = fixed.length > 0 && free.length > 0;
    element("error-caption").textContent = changed ? "expected error of the other joints" : "expected error of a joint";
    element("error-now").textContent = pose && free.length ? pixels(mean(now)).replace(" px", "") : "";
    element("error-before").textContent = changed ? pixels(mean(before)).replace(" px", "") : "";
    element("fixed-note").textContent = !pose
      ? "Nobody is known in this picture."
      : fixed.length
        ? `Fixed: ${fixed.length > 3 ? `${fixed.length} joints` : fixed.join(", ")}; ${twice()} a joint to free it.`
        : `Nothing is fixed yet. ${this.remark}`;
  }

  /** Whether left and right are undecided: the likeliest exchanges, which can be looked at. */
  sides(pose: Pose | null): void {
    const found = (pose?.alternatives ?? []).filter(({ probability }) => probability >= 0.01).slice(0, 4);
    element("sides").hidden = !found.length;
    element("alternatives").replaceChildren(
      ...found.map(({ pose: other, probability, exchanges }) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = `${this.exchangeName(other, exchanges)} ${percent(probability)}`;
        button.title = "Look at this pose";
        for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => this.other(other));
        for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => this.other(null));
        item.append(button);
        return item;
      }),
    );
  }

  exchangeName(pose: Pose, exchanges: readonly number[]): string {
    return [...new Set(exchanges)].slice(0, 2).map((k) => (k ? `${pose.facts.exchanges[k].name} exchanged` : "as first seen")).join(" or ");
  }

  /** Mark a row. */
  choose(joint: number | null): void {
    this.rows.forEach((row, index) => row.item.classList.toggle("chosen", index === joint));
  }
}
