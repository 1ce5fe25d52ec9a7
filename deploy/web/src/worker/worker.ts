/** The worker: fetches and opens a model and runs it, so that the page stays free. */

import sample from "../sample.json";
import type { Box, Pixels } from "./geometry";
import { Network, type Prediction } from "./network";
import { CANCELLED, type Estimate, type Message, type Questions, type Reply } from "./protocol";
import { findPerson, personBox, stillThere } from "./search";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const LOOK_EVERY = 0.5;
const CHECK_EVERY = 1;
// Crops that a search takes as a rule: its share of progress is measured by it.
const USUAL = 40;

let network: Network | null = null;
let picture: Pixels | null = null;
let followed: Box | null = null;
let before: number | null = null;
let cancelled = false;
let queue: Promise<void> = Promise.resolve();

scope.onmessage = ({ data }: MessageEvent<Message>) => {
  if (data.kind === "cancel") {
    cancelled = true;
    return;
  }
  queue = queue.then(async () => {
    cancelled = false;
    try {
      const answer = await answers[data.kind](data.ask as never);
      reply({ id: data.id, answer });
    } catch (error) {
      reply({ id: data.id, error: error instanceof Error ? error.message : String(error) });
    }
  });
};

const reply = (message: Reply): void => scope.postMessage(message);

const answers: { [K in keyof Questions]: (ask: Questions[K]["ask"]) => Promise<Questions[K]["answer"]> } = {
  async open({ url, backend, threads }) {
    const file = await download(url);
    await network?.release();
    network = null;
    network = await Network.open(file, backend, threads);
    return network.metadata;
  },
  async test({ sample: bitmap, rounds }) {
    const own = opened();
    const pixels = pixelsOf(bitmap);
    const boxes = [sample.box as unknown as Box];
    const [prediction] = await own.predict(pixels, boxes);
    const times: number[] = [];
    for (let i = 0; i < rounds; i++) {
      const start = performance.now();
      await own.predict(pixels, boxes);
      times.push(performance.now() - start);
    }
    return { prediction, milliseconds: Math.min(...times) };
  },
  async picture({ bitmap }) {
    picture = pixelsOf(bitmap);
    return null;
  },
  async estimate({ box }) {
    if (!picture) throw new Error("there is no picture");
    return estimate(picture, box);
  },
  async frame({ bitmap, time }) {
    const frame = pixelsOf(bitmap);
    const due = (period: number): boolean => before === null || Math.floor(time / period) > Math.floor(before / period);
    let found: Estimate | null = null;
    if (followed && due(CHECK_EVERY) && !(await stillThere((boxes) => opened().predict(frame, boxes), followed))) followed = null;
    if (followed) found = await estimate(frame, followed);
    else if (due(LOOK_EVERY)) found = await estimate(frame, null);
    before = time;
    followed = found && personBox(found.prediction);
    picture = frame;
    return found;
  },
  async forget() {
    followed = before = null;
    return null;
  },
};

function opened(): Network {
  if (!network) throw new Error("no model is open");
  return network;
}

/** As `Questions.estimate`. */
async function estimate(pixels: Pixels, asked: Box | null): Promise<Estimate | null> {
  const own = opened();
  const start = performance.now();
  let done = 0;
  const predict = async (boxes: readonly Box[]): Promise<Prediction[]> => {
    const from = done;
    return own.predict(pixels, boxes, (count) => {
      done = from + count;
      if (cancelled) throw new Error(CANCELLED);
      if (!asked) reply({ progress: Math.min(done / USUAL, 1) });
    });
  };
  const box = asked ?? (await findPerson(predict, pixels.width, pixels.height, own.metadata.padding));
  if (!box) return null;
  const [prediction] = await predict([box]);
  return { box, prediction, milliseconds: performance.now() - start };
}

/** Pixels of a bitmap, on white where it is transparent. */
function pixelsOf(bitmap: ImageBitmap): Pixels {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser cannot read the picture's pixels");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { data: context.getImageData(0, 0, width, height).data, width, height };
}

/** A file, with progress. */
async function download(url: string): Promise<Uint8Array> {
  const response = await fetch(url);
  if (!response.ok || !response.body) throw new Error(`the model is not there (${response.status})`);
  const total = Number(response.headers.get("content-length")) || 10e6;
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = response.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(next.value);
    length += next.value.length;
    reply({ progress: Math.min(length / total, 1) });
  }
  const file = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}
