/** Colours of overlays, as posecov/drawing/palette.py has them. */

import type { Side } from "../pose/skeleton";

export type Rgb = readonly [number, number, number];

/** Warm for the person's right, cool for the left: both kinds of dichromats tell them apart. */
export const SIDES: Record<Side, Rgb> = { right: [255, 140, 48], left: [60, 190, 255], centre: [235, 235, 235] };
export const INK: Rgb = [22, 24, 28];
export const PAPER: Rgb = [250, 250, 250];

const RAMP: readonly (readonly [number, Rgb])[] = [
  [0, [120, 132, 150]], [0.4, [176, 92, 160]], [0.7, [246, 112, 92]], [1, [255, 226, 96]],
];

/** Colour of a number between 0 and 1, from dim to bright. */
export function ramp(value: number): Rgb {
  for (let i = 1; i < RAMP.length; i++) {
    const [[a, low], [b, high]] = [RAMP[i - 1], RAMP[i]];
    if (value <= b) {
      const t = Math.max((value - a) / (b - a), 0);
      return [0, 1, 2].map((c) => Math.round(low[c] + t * (high[c] - low[c]))) as unknown as Rgb;
    }
  }
  return RAMP[RAMP.length - 1][1];
}

export const css = ([r, g, b]: Rgb, opacity = 1): string => `rgb(${r} ${g} ${b} / ${opacity})`;
