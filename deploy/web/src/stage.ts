/** The picture with the pose on it: two canvases, and a button for every joint that pointers and keys can move. */

import { element } from "./dom";
import { arrowOf, arrowSize, drawFigure, lineWidth, type Accents, type Figure } from "./drawing/figure";
import type { Point } from "./session";
import { View } from "./view";

const STILL = 3; // Stage pixels that a pointer may move and still be a click.
const DOUBLE = 350; // Milliseconds between the two presses of a double click.
const NEAR = { mouse: 20, touch: 34 };

export interface StageEvents {
  /** The joint under the pointer or in focus, or none. */
  point(joint: number | null): void;
  /** A joint is dragged to a place in the picture: first, on the way, at the end. */
  drag(joint: number, place: Point, phase: "start" | "move" | "end" | "cancel"): void;
  /** Arrow keys: by so many pixels of the picture as the screen shows it. */
  nudge(joint: number, dx: number, dy: number): void;
  /** Fix a joint where it is. */
  hold(joint: number): void;
  /** Let a joint go. */
  free(joint: number): void;
  /** The stage has another size. */
  resized(): void;
}

export interface Picture {
  source: CanvasImageSource;
  width: number;
  height: number;
}

export class Stage {
  readonly root = element("stage");
  view = new View(1, 0, 0, 1, 1);
  dragging: number | null = null;
  private readonly picture = element<HTMLCanvasElement>("picture");
  private readonly overlay = element<HTMLCanvasElement>("overlay");
  private readonly layer = element("joints");
  private readonly tip = element("tip");
  private buttons: HTMLButtonElement[] = [];
  /** Where joints can be taken hold of, stage pixels. */
  private handles: Point[] = [];
  private shown: Picture | null = null;
  private mirror = false;
  private pointed: number | null = null;

  constructor(private readonly events: StageEvents) {
    new ResizeObserver(() => this.resize()).observe(this.root);
    this.root.addEventListener("pointerdown", (event) => this.press(event));
    this.root.addEventListener("pointermove", (event) => this.hover(event));
    this.root.addEventListener("pointerleave", () => this.aim(null));
    window.addEventListener("keydown", () => this.root.classList.remove("by-pointer"), true);
  }

  /** Make the joints' buttons. */
  name(names: readonly string[]): void {
    this.layer.replaceChildren();
    this.buttons = names.map((name, joint) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "joint";
      button.dataset.joint = name;
      button.addEventListener("focus", () => {
        if (button.matches(":focus-visible")) this.aim(joint);
      });
      button.addEventListener("blur", () => this.aim(null));
      button.addEventListener("keydown", (event) => this.key(event, joint));
      this.layer.append(button);
      return button;
    });
  }

  /** Show a picture; draw the pose anew afterwards. */
  show(picture: Picture, mirror = false): void {
    this.shown = picture;
    this.mirror = mirror;
    this.fit();
    this.paint();
  }

  private resize(): void {
    this.fit();
    this.paint();
    this.events.resized();
  }

  private fit(): void {
    const { clientWidth: width, clientHeight: height } = this.root;
    this.view = View.contain({ width, height }, this.shown ?? { width: 1, height: 1 }, this.mirror);
    const density = Math.min(devicePixelRatio || 1, 2);
    for (const canvas of [this.picture, this.overlay]) {
      const size = [Math.round(width * density), Math.round(height * density)];
      if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    }
  }

  private paint(): void {
    const context = this.ready(this.picture);
    if (!this.shown) return;
    const { source, width, height } = this.shown;
    const { left, top, scale, mirror } = this.view;
    context.imageSmoothingQuality = "high";
    this.backdrop(context, this.shown);
    if (mirror) {
      context.translate(2 * left + scale * width, 0);
      context.scale(-1, 1);
    }
    context.drawImage(source, left, top, scale * width, scale * height);
  }

  /** Around the picture its own colours, out of focus and dim. */
  private backdrop(context: CanvasRenderingContext2D, { source, width, height }: Picture): void {
    const shape = this.view.width / this.view.height;
    const part = Math.min(1, shape / (width / height));
    const [w, h] = part < 1 ? [width * part, height] : [width, width / shape];
    const small = Object.assign(document.createElement("canvas"), { width: 6, height: 4 });
    small.getContext("2d")!.drawImage(source, (width - w) / 2, (height - h) / 2, w, h, 0, 0, 6, 4);
    context.drawImage(small, 0, 0, this.view.width, this.view.height);
    context.fillStyle = "rgb(14 15 18 / 0.72)";
    context.fillRect(0, 0, this.view.width, this.view.height);
  }

  /** The context of an emptied canvas, in stage pixels. */
  private ready(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
    const context = canvas.getContext("2d")!;
    const density = canvas.width / Math.max(this.root.clientWidth, 1);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(density, 0, 0, density, 0, 0);
    return context;
  }

  /** Draw a pose, or none. */
  draw(figure: Figure | null, accents: Accents = {}): void {
    const context = this.ready(this.overlay);
    this.layer.hidden = !figure;
    if (!figure) return;
    drawFigure(context, this.view, figure, accents);
    const size = arrowSize(lineWidth(figure.points, this.view), this.view);
    this.handles = this.buttons.map((button, joint) => {
      const [x, y] = [this.view.x(figure.points[2 * joint]), this.view.y(figure.points[2 * joint + 1])];
      const place = arrowOf(x, y, this.view, size) ?? { x, y };
      button.style.left = `${place.x}px`;
      button.style.top = `${place.y}px`;
      return [place.x, place.y];
    });
  }

  /** What a joint is called for those who cannot see it. */
  label(joint: number, text: string): void {
    this.buttons[joint].setAttribute("aria-label", text);
  }

  focus(joint: number): void {
    this.buttons[joint].focus({ preventScroll: true });
  }

  /** Where a joint can be taken hold of, stage pixels. */
  handle(joint: number): Point {
    return this.handles[joint] ?? [0, 0];
  }

  /** Words beside a joint, the first line in bold; or none. */
  say(joint: number | null, lines: readonly string[] = []): void {
    this.tip.hidden = joint === null;
    if (joint === null) return;
    const [head, ...rest] = lines;
    const title = document.createElement("b");
    title.textContent = head;
    this.tip.replaceChildren(
      title,
      ...rest.map((line) => Object.assign(document.createElement("span"), { textContent: line })),
    );
    const [x, y] = this.handle(joint);
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const left = Math.min(Math.max(x - width / 2, 8), this.view.width - width - 8);
    const above = y - height - 26;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(above > 8 ? above : y + 26)}px)`;
  }

  private place(event: PointerEvent): Point {
    const { left, top } = this.root.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  private nearest([x, y]: Point, kind: string): number | null {
    if (this.layer.hidden || this.root.classList.contains("boxing")) return null;
    let [best, least] = [null as number | null, kind === "mouse" ? NEAR.mouse : NEAR.touch];
    this.handles.forEach(([hx, hy], joint) => {
      const distance = Math.hypot(x - hx, y - hy);
      if (distance < least) [best, least] = [joint, distance];
    });
    return best;
  }

  private aim(joint: number | null): void {
    if (this.pointed === joint || this.dragging !== null) return;
    this.pointed = joint;
    this.events.point(joint);
  }

  private hover(event: PointerEvent): void {
    if (event.pointerType === "mouse" && !event.buttons) this.aim(this.nearest(this.place(event), "mouse"));
  }

  private lastPress: { joint: number; time: number } | null = null;

  private press(event: PointerEvent): void {
    if (event.button !== 0 || this.dragging !== null || !event.isPrimary) return;
    const start = this.place(event);
    const joint = this.nearest(start, event.pointerType);
    if (joint === null) return;
    event.preventDefault();
    this.root.classList.add("by-pointer");
    this.aim(joint);
    this.focus(joint);
    const twice = this.lastPress?.joint === joint && event.timeStamp - this.lastPress.time < DOUBLE;
    this.lastPress = twice ? null : { joint, time: event.timeStamp };
    if (twice) {
      this.events.free(joint);
      return;
    }
    const [hx, hy] = this.handle(joint);
    const [ox, oy] = [hx - start[0], hy - start[1]];
    let moved = false;
    const follow = (next: PointerEvent): void => {
      if (next.pointerId !== event.pointerId) return;
      const [x, y] = this.place(next);
      if (!moved && Math.hypot(x - start[0], y - start[1]) < STILL) return;
      const first = !moved;
      moved = true;
      this.dragging = joint;
      this.root.classList.add("dragging");
      this.events.drag(joint, this.view.back(x + ox, y + oy), first ? "start" : "move");
    };
    const end = (next: PointerEvent | KeyboardEvent): void => {
      if (next instanceof PointerEvent && next.pointerId !== event.pointerId) return;
      if (next instanceof KeyboardEvent && next.key !== "Escape") return;
      for (const kind of ["pointerup", "pointercancel"] as const) window.removeEventListener(kind, end);
      window.removeEventListener("pointermove", follow);
      window.removeEventListener("keydown", end, true);
      this.dragging = null;
      this.root.classList.remove("dragging");
      if (!moved) return;
      this.lastPress = null;
      if (next instanceof KeyboardEvent) next.stopPropagation();
      this.events.drag(joint, [0, 0], next.type === "pointerup" ? "end" : "cancel");
    };
    window.addEventListener("pointermove", follow);
    for (const kind of ["pointerup", "pointercancel"] as const) window.addEventListener(kind, end);
    window.addEventListener("keydown", end, true);
  }

  private key(event: KeyboardEvent, joint: number): void {
    const step = (event.shiftKey ? 10 : 1) / this.view.scale;
    const moves: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) this.events.nudge(joint, this.view.step(move[0]) * step * 2, move[1] * step * 2);
    else if (event.key === "Enter" || event.key === " ") this.events.hold(joint);
    else if (event.key === "Delete" || event.key === "Backspace") this.events.free(joint);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
