/** One person on a canvas (posecov/drawing): regions, limbs, joints, arrows at the border towards joints outside. */

import { area, type Outline } from "../pose/regions";
import { limbIndices, sideOf, type Skeleton } from "../pose/skeleton";
import type { View } from "../view";
import { css, INK, PAPER, ramp, SIDES, type Rgb } from "./palette";

/** What is drawn, in pixels of the picture. */
export interface Figure {
  skeleton: Skeleton;
  /** x0, y0, x1, y1, ... */
  points: ArrayLike<number>;
  /** Outlines of every joint's region. */
  regions: readonly (readonly Outline[])[];
  known: ReadonlySet<number>;
}

/** What is added to it. */
export interface Accents {
  /** The joint that is pointed at or chosen. */
  chosen?: number | null;
  /** The pose before joints were fixed, drawn thinly. */
  former?: Figure | null;
  /** Another hypothesis, drawn thinly. */
  other?: Figure | null;
  /** How strongly and how far (picture pixels) every joint moves with the chosen one. */
  moves?: { strength: number[]; steps: [number, number][] } | null;
  opacity?: number;
}

/** Width of a limb on the stage. */
export function lineWidth(points: ArrayLike<number>, view: View): number {
  let [lowX, lowY, highX, highY] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < points.length; i += 2) {
    // Only what can be seen sets the width: one joint far outside must not make the limbs thick.
    const x = Math.min(Math.max(view.x(points[i]), 0), view.width);
    const y = Math.min(Math.max(view.y(points[i + 1]), 0), view.height);
    [lowX, lowY, highX, highY] = [Math.min(lowX, x), Math.min(lowY, y), Math.max(highX, x), Math.max(highY, y)];
  }
  const shorter = Math.min(view.width, view.height);
  const size = Math.max(highX - lowX, highY - lowY);
  return Math.max(Math.min(Math.max(0.012 * size, 0.004 * shorter), 0.014 * shorter), 1.6);
}

/** Where an arrow towards a joint outside of the view stands, and its direction; null for a joint that can be seen. */
export function arrowOf(x: number, y: number, view: View, size: number): { x: number; y: number; angle: number } | null {
  if (view.holds(x, y)) return null;
  const [bx, by] = [Math.min(Math.max(x, size), view.width - size), Math.min(Math.max(y, size), view.height - size)];
  return { x: bx, y: by, angle: Math.atan2(y - by, x - bx) };
}

export const arrowSize = (line: number, view: View): number => Math.max(line * 2.8, 0.017 * Math.min(view.width, view.height), 8);

/** Draw a figure with its accents. */
export function drawFigure(context: CanvasRenderingContext2D, view: View, figure: Figure, accents: Accents = {}): void {
  const line = lineWidth(figure.points, view);
  const { former, other, moves, chosen = null, opacity = 1 } = accents;
  context.save();
  context.globalAlpha = opacity;
  context.lineJoin = context.lineCap = "round";
  const strengths = moves?.strength;
  const colourOf = (joint: number): Rgb => (strengths ? ramp(strengths[joint]) : SIDES[sideOf(figure.skeleton, [joint])]);
  if (former) drawThin(context, view, former, line, true);
  const order = figure.regions.map((_, joint) => joint);
  if (strengths) order.sort((a, b) => strengths[a] - strengths[b]);
  for (const joint of order) {
    drawRegion(context, view, figure.regions[joint], colourOf(joint), line, strengths ? strengths[joint] : null, chosen === joint);
  }
  if (other) drawThin(context, view, other, line, false);
  drawLimbs(context, view, figure, line, !!strengths);
  for (const joint of order) {
    drawJoint(context, view, figure, joint, colourOf(joint), line);
    if (moves && !figure.known.has(joint)) {
      const [x, y] = [view.x(figure.points[2 * joint]), view.y(figure.points[2 * joint + 1])];
      const [dx, dy] = moves.steps[joint];
      drawStep(context, x, y, x + view.step(view.scale * dx), y + view.scale * dy, colourOf(joint), Math.max(1.5, line * 0.6));
    }
  }
  if (chosen !== null) {
    const [x, y] = [view.x(figure.points[2 * chosen]), view.y(figure.points[2 * chosen + 1])];
    circle(context, x, y, line * 2.7);
    stroke(context, INK, 0.7, line * 1.1);
    stroke(context, PAPER, 1, line * 0.5);
  }
  context.restore();
}

function drawRegion(
  context: CanvasRenderingContext2D, view: View, outlines: readonly Outline[], colour: Rgb, line: number,
  strength: number | null, chosen: boolean,
): void {
  if (!outlines.length) return;
  const whole = outlines.reduce((sum, outline) => sum + Math.abs(area(outline)), 0) * view.scale ** 2;
  // Fainter the larger a region is, or a dozen joints of which little is known would hide the picture.
  const most = strength === null ? (chosen ? 0.45 : 0.26) : 0.4 * strength;
  const faint = Math.max((most * 0.18 * Math.min(view.width, view.height)) / Math.sqrt(Math.max(whole, 1)), Math.min(chosen ? 0.12 : 0.045, most));
  context.beginPath();
  for (const outline of outlines) {
    for (let i = 0; i < outline.length; i += 2) {
      const [x, y] = [view.x(outline[i]), view.y(outline[i + 1])];
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    }
    context.closePath();
  }
  context.fillStyle = css(colour, Math.min(faint, most));
  context.fill("evenodd");
  const shown = strength === null ? 1 : 0.35 + 0.65 * strength;
  stroke(context, INK, 0.3 * shown, Math.max(line * 0.55, 2));
  stroke(context, colour, (chosen ? 1 : 0.85) * shown, Math.max(line * (chosen ? 0.36 : 0.24), 1.1));
}

function drawLimbs(context: CanvasRenderingContext2D, view: View, figure: Figure, line: number, neutral: boolean): void {
  // A dark casing under everything keeps light limbs apart from a light background and from each other.
  for (const casing of [true, false]) {
    for (const [a, b] of limbIndices(figure.skeleton)) {
      context.beginPath();
      context.moveTo(view.x(figure.points[2 * a]), view.y(figure.points[2 * a + 1]));
      context.lineTo(view.x(figure.points[2 * b]), view.y(figure.points[2 * b + 1]));
      const width = line * (neutral ? 0.6 : 1);
      if (casing) stroke(context, INK, 0.5, width + 0.7 * line);
      else stroke(context, neutral ? PAPER : SIDES[sideOf(figure.skeleton, [a, b])], neutral ? 0.75 : 0.95, width);
    }
  }
}

function drawJoint(context: CanvasRenderingContext2D, view: View, figure: Figure, joint: number, colour: Rgb, line: number): void {
  const [x, y] = [view.x(figure.points[2 * joint]), view.y(figure.points[2 * joint + 1])];
  const size = arrowSize(line, view);
  const arrow = arrowOf(x, y, view, size);
  if (arrow) {
    context.save();
    context.translate(arrow.x, arrow.y);
    context.rotate(arrow.angle);
    polygon(context, [[0.6, 0], [-1.1, 0.7], [-0.65, 0], [-1.1, -0.7]], size);
    context.restore();
    stroke(context, INK, 0.8, Math.max(size * 0.25, 2));
    fill(context, colour);
  } else if (figure.known.has(joint)) {
    for (const [radius, own] of [[2.7, INK], [1.85, PAPER]] as const) {
      context.save();
      context.translate(x, y);
      polygon(context, [[0, -1], [1, 0], [0, 1], [-1, 0]], radius * line);
      context.restore();
      fill(context, own);
    }
  } else {
    circle(context, x, y, line * 1.5);
    fill(context, INK);
    circle(context, x, y, line * 1.02);
    fill(context, colour);
  }
}

/** Limbs, and with `regions` their regions' outlines, in thin pale lines. */
function drawThin(context: CanvasRenderingContext2D, view: View, figure: Figure, line: number, regions: boolean): void {
  context.save();
  context.setLineDash(regions ? [] : [line * 1.6, line * 1.6]);
  for (const [a, b] of limbIndices(figure.skeleton)) {
    context.beginPath();
    context.moveTo(view.x(figure.points[2 * a]), view.y(figure.points[2 * a + 1]));
    context.lineTo(view.x(figure.points[2 * b]), view.y(figure.points[2 * b + 1]));
    stroke(context, INK, 0.35, line * 0.8);
    stroke(context, PAPER, regions ? 0.45 : 0.9, line * 0.4);
  }
  if (regions) {
    context.setLineDash([2, 4]);
    for (const outline of figure.regions.flat()) {
      context.beginPath();
      for (let i = 0; i < outline.length; i += 2) context.lineTo(view.x(outline[i]), view.y(outline[i + 1]));
      context.closePath();
      stroke(context, PAPER, 0.4, 1);
    }
  }
  context.restore();
}

function drawStep(
  context: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number, colour: Rgb, width: number,
): void {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < 3) return;
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const head = Math.min(length * 0.5, width * 4);
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  for (const turn of [2.6, -2.6]) {
    context.moveTo(x1, y1);
    context.lineTo(x1 + head * Math.cos(angle + turn), y1 + head * Math.sin(angle + turn));
  }
  stroke(context, INK, 0.6, width + 2);
  stroke(context, colour, 1, width);
}

function circle(context: CanvasRenderingContext2D, x: number, y: number, radius: number): void {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
}

function polygon(context: CanvasRenderingContext2D, corners: readonly (readonly [number, number])[], size: number): void {
  context.beginPath();
  for (const [x, y] of corners) context.lineTo(size * x, size * y);
  context.closePath();
}

function stroke(context: CanvasRenderingContext2D, colour: Rgb, opacity: number, width: number): void {
  context.strokeStyle = css(colour, opacity);
  context.lineWidth = width;
  context.stroke();
}

function fill(context: CanvasRenderingContext2D, colour: Rgb): void {
  context.fillStyle = css(colour);
  context.fill();
}
