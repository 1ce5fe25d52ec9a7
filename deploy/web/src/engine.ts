/**
 * Which worker answers: WebAssembly first, since it runs everywhere and starts quickest; WebGPU takes over where there is one
 * that gives the same numbers in less time.
 */

import { Client } from "./worker/client";
import type { Metadata } from "./worker/metadata";
import type { Backend, Prediction } from "./worker/network";

export type ModelName = "tiny" | "small";

/** How far, in pixels of the sample, WebGPU's keypoints may be from WebAssembly's. */
const SAME = 0.5;
const PATIENCE = 60_000;

export interface Running {
  client: Client;
  metadata: Metadata;
  backend: Backend;
  threads: number;
  /** For one crop, with its warp. */
  milliseconds: number;
}

export class Engine {
  running: Running | null = null;
  private loading = 0;

  /**
   * @param sample a new copy of the sample picture.
   * @param progress share of what is being done, 0 ... 1.
   * @param taken is told of the worker that answers from now on.
   */
  constructor(
    private readonly sample: () => Promise<ImageBitmap>,
    private readonly progress: (share: number) => void,
    private readonly taken: (running: Running) => void,
  ) {}

  /** Open a model; what runs goes on until the new one is ready. Errors leave it so. */
  async load(model: ModelName, backend: Backend | "auto" = "auto"): Promise<void> {
    const turn = ++this.loading;
    const url = new URL(`models/${model}.onnx`, document.baseURI).href;
    const threads = threadCount();
    const plain = await this.start(url, "wasm", threads);
    if (turn !== this.loading) return plain.running.client.close();
    this.take(plain.running);
    if (backend === "wasm" || !(await hasWebGpu(backend === "webgpu"))) return;
    try {
      const fast = await withPatience(this.start(url, "webgpu", 1), (late) => late.running.client.close());
      const apart = distance(fast.prediction, plain.prediction);
      const better = apart < SAME && (backend === "webgpu" || fast.running.milliseconds < plain.running.milliseconds);
      if (better && turn === this.loading) return this.take(fast.running);
      fast.running.client.close();
      console.debug(`WebGPU is not taken: ${apart.toFixed(2)} px apart, ${fast.running.milliseconds.toFixed(0)} ms`);
    } catch (error) {
      // WebAssembly goes on: that WebGPU fails on this machine is no news for people.
      console.debug(`WebGPU is not taken: ${(error as Error).message}`);
    }
  }

  private take(running: Running): void {
    const before = this.running;
    this.running = running;
    this.taken(running);
    before?.client.close();
  }

  private async start(url: string, backend: Backend, threads: number): Promise<{ running: Running; prediction: Prediction }> {
    const client = new Client(this.progress);
    try {
      const metadata = await client.ask("open", { url, backend, threads });
      const sample = await this.sample();
      const { prediction, milliseconds } = await client.ask("test", { sample, rounds: 3 }, [sample]);
      return { running: { client, metadata, backend, threads, milliseconds }, prediction };
    } catch (error) {
      client.close();
      throw error;
    }
  }
}

/** Largest difference of two poses' coordinates, pixels; infinite where a weight differs by more than 0.02. */
function distance(a: Prediction, b: Prediction): number {
  if (a.weights.some((weight, k) => !(Math.abs(weight - b.weights[k]) < 0.02))) return Infinity;
  return Math.max(...Array.from(a.keypoints, (value, i) => Math.abs(value - b.keypoints[i])));
}

function threadCount(): number {
  if (!crossOriginIsolated) return 1;
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  return asked >= 1 ? Math.floor(asked) : Math.min(Math.max((navigator.hardwareConcurrency || 2) - 1, 1), 4);
}

/** Whether there is a GPU worth trying; when it is asked for, any will do. */
async function hasWebGpu(asked: boolean): Promise<boolean> {
  const { gpu, connection } = navigator as Navigator & { connection?: { saveData?: boolean } };
  if (!gpu || (connection?.saveData && !asked)) return false;
  const adapter = await gpu.requestAdapter().catch(() => null);
  // A software adapter is slower than WebAssembly.
  return !!adapter && (asked || !adapter.info?.isFallbackAdapter);
}

function withPatience<T>(promise: Promise<T>, late: (value: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    let over = false;
    const timer = setTimeout(() => {
      over = true;
      reject(new Error("too slow"));
    }, PATIENCE);
    promise.then(
      (value) => (over ? late(value) : resolve(value)),
      reject,
    ).finally(() => clearTimeout(timer));
  });
}
