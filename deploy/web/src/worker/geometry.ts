/** The crop map and its antialiased warp (posecov/geometry.py). Pixels are 0-based, a pixel's centre lies at its integers. */

/** x, y, width, height in pixels of the picture. */
export type Box = readonly [number, number, number, number];

/** p -> scale p + (x, y). */
export interface CropMap {
  scale: number;
  x: number;
  y: number;
}

/** Rows of r, g, b, a. */
export interface Pixels {
  data: Uint8ClampedArray | Uint8Array;
  width: number;
  height: number;
}

/** The map from the picture to a square crop around a box, which covers `padding` times its longer side. */
export function cropMap(box: Box, size: number, padding: number): CropMap {
  const scale = size / (Math.max(box[2], box[3], 1e-6) * padding);
  const middle = (size - 1) / 2;
  return { scale, x: middle - scale * (box[0] + box[2] / 2), y: middle - scale * (box[1] + box[3] / 2) };
}

const OUTSIDE = 127;

/** The crop (size, size, 3) in r, g, b; grey where the picture ends. */
export function warp(picture: Pixels, map: CropMap, size: number): Uint8Array {
  const { patch, x, y } = patchOf(picture, map, size);
  const crop = new Uint8Array(size * size * 3);
  const columns = Array.from({ length: size }, (_, i) => (i - x.offset) / x.scale);
  for (let j = 0; j < size; j++) {
    const v = (j - y.offset) / y.scale;
    const v0 = Math.floor(v);
    const fy = v - v0;
    for (let i = 0; i < size; i++) {
      const u = columns[i];
      const u0 = Math.floor(u);
      const fx = u - u0;
      const at = 3 * (j * size + i);
      if (u0 < -1 || v0 < -1 || u0 >= patch.width || v0 >= patch.height) {
        crop[at] = crop[at + 1] = crop[at + 2] = OUTSIDE;
        continue;
      }
      const left = u0 >= 0;
      const right = u0 + 1 < patch.width;
      const up = v0 >= 0;
      const down = v0 + 1 < patch.height;
      const first = 3 * (v0 * patch.width + u0);
      const second = first + 3 * patch.width;
      for (let c = 0; c < 3; c++) {
        const a = left && up ? patch.data[first + c] : OUTSIDE;
        const b = right && up ? patch.data[first + 3 + c] : OUTSIDE;
        const d = left && down ? patch.data[second + c] : OUTSIDE;
        const e = right && down ? patch.data[second + 3 + c] : OUTSIDE;
        crop[at + c] = Math.round((a * (1 - fx) + b * fx) * (1 - fy) + (d * (1 - fx) + e * fx) * fy);
      }
    }
  }
  return crop;
}

interface Axis {
  scale: number;
  offset: number;
}

/** The part of the picture under the crop, r, g, b, area-averaged to the crop's resolution if that is less; the map from it. */
function patchOf(picture: Pixels, map: CropMap, size: number): { patch: Pixels; x: Axis; y: Axis } {
  const factor = Math.max(1 / map.scale, 1);
  const cut = (offset: number, limit: number): { low: number; extent: number; target: number } => {
    const [near, far] = [-offset / map.scale, (size - 1 - offset) / map.scale];
    const low = Math.min(Math.max(Math.floor(near - 2 * factor), 0), limit - 1);
    const high = Math.min(Math.max(Math.ceil(far + 2 * factor) + 1, low + 1), limit);
    return { low, extent: high - low, target: Math.max(roundHalfEven((high - low) / factor), 1) };
  };
  const [x, y] = [cut(map.x, picture.width), cut(map.y, picture.height)];
  const axis = (offset: number, { low, extent, target }: typeof x): Axis => {
    const ratio = extent / target;
    return { scale: map.scale * ratio, offset: map.scale * (low + ratio / 2 - 0.5) + offset };
  };
  const data = new Uint8Array(x.target * y.target * 3);
  if (x.target >= x.extent && y.target >= y.extent) {
    for (let j = 0; j < y.extent; j++) {
      for (let i = 0; i < x.extent; i++) {
        const from = 4 * ((y.low + j) * picture.width + x.low + i);
        const to = 3 * (j * x.extent + i);
        for (let c = 0; c < 3; c++) data[to + c] = picture.data[from + c];
      }
    }
  } else {
    const [across, along] = [shares(x.extent, x.target), shares(y.extent, y.target)];
    const row = new Float64Array(x.target * 3);
    const sum = new Float64Array(x.target * 3);
    for (let j = 0; j < y.target; j++) {
      sum.fill(0);
      const { first: top, weights: rows } = along[j];
      rows.forEach((weight, k) => {
        row.fill(0);
        const start = 4 * ((y.low + top + k) * picture.width + x.low);
        for (let i = 0; i < x.target; i++) {
          const { first, weights } = across[i];
          for (let l = 0; l < weights.length; l++) {
            const from = start + 4 * (first + l);
            for (let c = 0; c < 3; c++) row[3 * i + c] += weights[l] * picture.data[from + c];
          }
        }
        for (let i = 0; i < sum.length; i++) sum[i] += weight * row[i];
      });
      for (let i = 0; i < sum.length; i++) data[3 * j * x.target + i] = Math.round(sum[i]);
    }
  }
  return { patch: { data, width: x.target, height: y.target }, x: axis(map.x, x), y: axis(map.y, y) };
}

/** For every one of `target` cells over `extent` pixels the pixels that it covers and their shares of it. */
function shares(extent: number, target: number): { first: number; weights: number[] }[] {
  const ratio = extent / target;
  return Array.from({ length: target }, (_, i) => {
    const [low, high] = [i * ratio, Math.min((i + 1) * ratio, extent)];
    const first = Math.floor(low + 1e-9);
    const last = Math.min(Math.ceil(high - 1e-9), extent);
    const weights = Array.from({ length: last - first }, (_, k) => {
      return Math.min(first + k + 1, high) - Math.max(first + k, low);
    });
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** Points x0, y0, ... of a crop in the pixels of the picture. */
export const pointsBack = (points: ArrayLike<number>, map: CropMap): Float64Array =>
  Float64Array.from(points, (value, i) => (value - (i % 2 ? map.y : map.x)) / map.scale);

/** A covariance or scatter of a crop in the pixels of the picture. */
export const matrixBack = (matrix: ArrayLike<number>, map: CropMap): Float64Array =>
  Float64Array.from(matrix, (value) => value / (map.scale * map.scale));
