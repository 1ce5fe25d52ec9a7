/** The person's box on the stage: moved, stretched by its corners and edges, drawn anew; with arrow keys too. */

import { element } from "./dom";
import type { View } from "./view";
import type { Box } from "./worker/geometry";

const SMALLEST = 16; // Stage pixels.
const BORDER = 2; // As in style.css.
const HANDLES: readonly (readonly [number, number])[] = [
  [0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5],
];
const CURSORS = ["nwse", "ns", "nesw", "ew", "nwse", "ns", "nesw", "ew"];

export class BoxEditor {
  private readonly stage = element("stage");
  private readonly frame = document.createElement("div");
  private box: Box | null = null;
  private view: View | null = null;
  private timer = 0;

  /** @param changed is called with the new box when it is let go. */
  constructor(private readonly changed: (box: Box) => void) {
    this.frame.className = "person";
    this.frame.tabIndex = 0;
    this.frame.setAttribute("role", "group");
    this.frame.setAttribute("aria-label", "The person's box. Arrow keys move it, with Shift its lower right corner.");
    HANDLES.forEach(([x, y], index) => {
      const handle = document.createElement("i");
      handle.style.left = `${100 * x}%`;
      handle.style.top = `${100 * y}%`;
      handle.style.cursor = `${CURSORS[index]}-resize`;
      handle.dataset.handle = String(index);
      this.frame.append(handle);
    });
    this.frame.hidden = true;
    this.stage.append(this.frame);
    this.stage.addEventListener("pointerdown", (event) => this.press(event));
    this.frame.addEventListener("keydown", (event) => this.key(event));
  }

  get open(): boolean {
    return this.view !== null;
  }

  /** Show a box to be changed; without one it can be drawn. */
  edit(box: Box | null, view: View): void {
    const first = !this.open;
    this.box = box;
    this.view = view;
    this.stage.classList.add("boxing");
    this.place();
    if (first && box) this.frame.focus({ preventScroll: true });
  }

  /** The stage has another size. */
  refit(view: View): void {
    if (!this.view) return;
    this.view = view;
    this.place();
  }

  close(): void {
    this.view = null;
    clearTimeout(this.timer);
    this.stage.classList.remove("boxing");
    this.frame.hidden = true;
  }

  /** Left, top, right, bottom on the stage. */
  private sides(): [number, number, number, number] {
    const [view, [x, y, width, height]] = [this.view!, this.box!];
    const [a, b] = [view.x(x), view.x(x + width)];
    return [Math.min(a, b), view.y(y), Math.max(a, b), view.y(y + height)];
  }

  private take([left, top, right, bottom]: readonly number[]): void {
    const view = this.view!;
    const [a, y0] = view.back(Math.min(left, right), Math.min(top, bottom));
    const [b, y1] = view.back(Math.max(left, right), Math.max(top, bottom));
    this.box = [Math.min(a, b), y0, Math.abs(b - a), y1 - y0];
    this.place();
  }

  private place(): void {
    this.frame.hidden = !this.box;
    if (!this.box || !this.view) return;
    const [left, top, right, bottom] = this.sides();
    Object.assign(this.frame.style, {
      transform: `translate(${left}px, ${top}px)`, width: `${right - left}px`, height: `${bottom - top}px`,
    });
    // A handle beyond the stage comes to its border, or nobody could take hold of it.
    [...this.frame.children].forEach((child, index) => {
      const [hx, hy] = HANDLES[index];
      const x = Math.min(Math.max(left + hx * (right - left), 10), this.view!.width - 10) - left - BORDER;
      const y = Math.min(Math.max(top + hy * (bottom - top), 10), this.view!.height - 10) - top - BORDER;
      Object.assign((child as HTMLElement).style, { left: `${x}px`, top: `${y}px` });
    });
  }

  private press(event: PointerEvent): void {
    if (!this.view || event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    const { left, top } = this.stage.getBoundingClientRect();
    const at = (next: PointerEvent): [number, number] => [next.clientX - left, next.clientY - top];
    const [x0, y0] = at(event);
    const target = event.target as HTMLElement;
    const handle = target.dataset.handle === undefined ? null : HANDLES[Number(target.dataset.handle)];
    const inside = this.box && this.frame.contains(target);
    const before = inside ? this.sides() : [x0, y0, x0, y0];
    const previous = this.box;
    const follow = (next: PointerEvent): void => {
      const [x, y] = at(next);
      const [dx, dy] = [x - x0, y - y0];
      const sides = [...before];
      const [hx, hy] = inside ? (handle ?? [-1, -1]) : [1, 1];
      if (hx === -1 || hx === 0) sides[0] += dx;
      if (hx === -1 || hx === 1) sides[2] += dx;
      if (hy === -1 || hy === 0) sides[1] += dy;
      if (hy === -1 || hy === 1) sides[3] += dy;
      this.take(sides);
    };
    const end = (next: PointerEvent): void => {
      window.removeEventListener("pointermove", follow);
      window.removeEventListener("pointerup", end);
      window.removeEventListener("pointercancel", end);
      if (!this.box || !this.view) return;
      const [a, b, c, d] = this.sides();
      if (next.type === "pointercancel" || Math.max(c - a, d - b) < SMALLEST) {
        this.box = previous;
        this.place();
      } else if (this.box !== previous) this.changed(this.box);
    };
    window.addEventListener("pointermove", follow);
    window.addEventListener("pointerup", end);
    window.addEventListener("pointercancel", end);
  }

  private key(event: KeyboardEvent): void {
    const moves: Record<string, readonly [number, number]> = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    };
    const move = moves[event.key];
    if (!move || !this.box) return;
    event.preventDefault();
    const [left, top, right, bottom] = this.sides();
    const [dx, dy] = [8 * move[0], 8 * move[1]];
    if (event.shiftKey) this.take([left, top, Math.max(right + dx, left + SMALLEST), Math.max(bottom + dy, top + SMALLEST)]);
    else this.take([left + dx, top + dy, right + dx, bottom + dy]);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.box && this.changed(this.box), 250);
  }
}
