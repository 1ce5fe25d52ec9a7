/** What the page knows about the person: the network's pose, the joints that were fixed, and how it came to that. */

import type { Pose } from "./pose/pose";

export type Point = readonly [number, number];

interface State {
  base: Pose | null;
  fixed: ReadonlyMap<number, Point>;
}

const LONGEST = 200;

export class Session {
  private state: State = { base: null, fixed: new Map() };
  private past: State[] = [];
  private conditioned: Pose | null = null;

  /** The network's pose, or null where nobody is. */
  get base(): Pose | null {
    return this.state.base;
  }

  /** Places of the joints that are fixed. */
  get fixed(): ReadonlyMap<number, Point> {
    return this.state.fixed;
  }

  /** The network's pose once the fixed joints are known. */
  get pose(): Pose | null {
    this.conditioned ??= this.state.base?.condition(this.state.fixed) ?? null;
    return this.conditioned;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  /** Take a new picture's pose; nothing can be undone. */
  start(base: Pose | null): void {
    this.past = [];
    this.set({ base, fixed: new Map() });
  }

  /** Take another pose of the same picture. */
  replace(base: Pose | null): void {
    this.remember();
    this.set({ base, fixed: new Map() });
  }

  /** What comes next can be undone to here. */
  remember(): void {
    this.past.push(this.state);
    if (this.past.length > LONGEST) this.past.shift();
  }

  /** Fix a joint, or move one that is; `remember` first. */
  fix(joint: number, point: Point): void {
    this.set({ ...this.state, fixed: new Map([...this.state.fixed, [joint, point]]) });
  }

  /** Let a joint be estimated again. False when it is not fixed. */
  free(joint: number): boolean {
    if (!this.state.fixed.has(joint)) return false;
    this.remember();
    const fixed = new Map(this.state.fixed);
    fixed.delete(joint);
    this.set({ ...this.state, fixed });
    return true;
  }

  /** Free all joints. False when none is fixed. */
  reset(): boolean {
    if (!this.state.fixed.size) return false;
    this.remember();
    this.set({ ...this.state, fixed: new Map() });
    return true;
  }

  /** Back to what was remembered last. False when there is nothing. */
  undo(): boolean {
    const before = this.past.pop();
    if (!before) return false;
    this.set(before);
    return true;
  }

  private set(state: State): void {
    this.state = state;
    this.conditioned = null;
  }
}
