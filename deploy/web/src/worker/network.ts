/** A model opened with ONNX Runtime Web: boxes of a picture in, poses in its pixels out (posecov/model.py, estimator.py). */

import type * as Ort from "onnxruntime-web";
import asyncifyCode from "../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.mjs?url";
import asyncifyWasm from "../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm?url";
import plainCode from "../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.mjs?url";
import plainWasm from "../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm?url";
import { spread } from "../pose/law";
import { cropMap, matrixBack, pointsBack, warp, type Box, type Pixels } from "./geometry";
import { readMetadata, type Metadata } from "./metadata";
import type { Found } from "./search";

export type Backend = "wasm" | "webgpu";

const BATCH = 8;

/** One person's, in pixels of the picture. */
export interface Prediction extends Found {
  /** (2J, 2J) of the leading component. */
  scatter: Float64Array;
  /** One for each exchange, one for a law without. */
  weights: Float64Array;
}

export class Network {
  private constructor(
    readonly metadata: Metadata,
    private readonly ort: typeof Ort,
    private readonly session: Ort.InferenceSession,
  ) {}

  /** Open a model file. Errors of the runtime pass through. */
  static async open(file: Uint8Array, backend: Backend, threads: number): Promise<Network> {
    const metadata = readMetadata(file);
    const ort: typeof Ort = backend === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
    ort.env.logLevel = "fatal";
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = backend === "webgpu" ? { mjs: asyncifyCode, wasm: asyncifyWasm } : { mjs: plainCode, wasm: plainWasm };
    const session = await ort.InferenceSession.create(file, { executionProviders: [backend], logSeverityLevel: 4 });
    return new Network(metadata, ort, session);
  }

  /** One prediction for each box. `between` is called after every batch with how many are done, and may throw. */
  async predict(picture: Pixels, boxes: readonly Box[], between?: (done: number) => void): Promise<Prediction[]> {
    const found: Prediction[] = [];
    for (let start = 0; start < boxes.length; start += BATCH) {
      found.push(...(await this.batch(picture, boxes.slice(start, start + BATCH))));
      between?.(found.length);
    }
    return found;
  }

  private async batch(picture: Pixels, boxes: readonly Box[]): Promise<Prediction[]> {
    const { input_size: size, padding, pixel_mean: mean, pixel_std: std, degrees_of_freedom: nu, exchanges } = this.metadata;
    const plane = size * size;
    const input = new Float32Array(boxes.length * 3 * plane);
    const maps = boxes.map((box) => cropMap(box, size, padding));
    maps.forEach((map, n) => {
      const crop = warp(picture, map, size);
      for (let c = 0; c < 3; c++) {
        const start = (3 * n + c) * plane;
        for (let i = 0; i < plane; i++) input[start + i] = (crop[3 * i + c] - mean[c]) / std[c];
      }
    });
    const results = await this.session.run({ image: new this.ort.Tensor("float32", input, [boxes.length, 3, size, size]) });
    const rows = (name: string): ((n: number) => Float32Array) => {
      const data = results[name].data as Float32Array;
      const length = data.length / boxes.length;
      return (n) => data.subarray(n * length, (n + 1) * length);
    };
    const keypoints = rows("keypoints");
    const matrices = rows(exchanges.length ? "scatter" : "covariance");
    const weights = exchanges.length ? rows("weights") : () => Float32Array.of(1);
    const presence = "presence" in results ? rows("presence") : () => [null];
    const factor = spread(nu ?? Infinity);
    return maps.map((map, n) => {
      const matrix = matrixBack(matrices(n), map);
      if (!matrix.every(Number.isFinite)) throw new Error("the network returned something that is no number");
      return {
        keypoints: pointsBack(keypoints(n), map),
        scatter: exchanges.length ? matrix : matrix.map((value) => value / factor),
        covariance: exchanges.length ? matrix.map((value) => value * factor) : matrix,
        weights: Float64Array.from(weights(n)),
        presence: presence(n)[0],
      };
    });
  }

  /** Free the session. */
  async release(): Promise<void> {
    await this.session.release();
  }
}
