/** The page's end of the worker. */

import type { Message, Question, Questions, Reply } from "./protocol";

/** A worker that answers `Questions`. */
export class Client {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  private last = 0;

  constructor(progress: (share: number) => void = () => {}) {
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      if ("progress" in data) return progress(data.progress);
      const waiting = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if ("error" in data) waiting?.reject(new Error(data.error));
      else waiting?.resolve(data.answer as never);
    };
    this.worker.onerror = (event) => this.fail(event.message || "the worker did not start");
  }

  /** Ask; what is listed to be transferred is gone here afterwards. */
  ask<K extends keyof Questions>(kind: K, ask: Questions[K]["ask"], transfer: Transferable[] = []): Promise<Questions[K]["answer"]> {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, kind, ask } as Question, transfer);
    });
  }

  /** Give up what is being done now. */
  cancel(): void {
    this.worker.postMessage({ kind: "cancel" } satisfies Message);
  }

  /** End the worker. */
  close(): void {
    this.worker.terminate();
    this.fail("the worker was ended");
  }

  private fail(why: string): void {
    for (const { reject } of this.waiting.values()) reject(new Error(why));
    this.waiting.clear();
  }
}
