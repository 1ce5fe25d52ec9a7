/** What the page and its worker say to each other. */

import type { Box } from "./geometry";
import type { Metadata } from "./metadata";
import type { Backend, Prediction } from "./network";

export interface Estimate {
  box: Box;
  prediction: Prediction;
  /** Milliseconds of all the network's work for it. */
  milliseconds: number;
}

/** Everything that can be asked of the worker; an answer follows each question, in order. */
export interface Questions {
  /** Fetch and open a model. */
  open: { ask: { url: string; backend: Backend; threads: number }; answer: Metadata };
  /** The sample's pose in its box, and milliseconds for it, the best of some rounds. */
  test: { ask: { sample: ImageBitmap; rounds: number }; answer: { prediction: Prediction; milliseconds: number } };
  /** Take a picture. */
  picture: { ask: { bitmap: ImageBitmap }; answer: null };
  /** The pose in a box of the picture; without a box that of the one person in it, or null. */
  estimate: { ask: { box: Box | null }; answer: Estimate | null };
  /** The same in the next frame of a film, at a time in seconds; the person is followed. */
  frame: { ask: { bitmap: ImageBitmap; time: number }; answer: Estimate | null };
  /** Forget whom the last frames showed. */
  forget: { ask: null; answer: null };
}

export type Question = { [K in keyof Questions]: { id: number; kind: K; ask: Questions[K]["ask"] } }[keyof Questions];

export type Message =
  | Question
  /** Give up what is being done now; its answer is an error called "cancelled". */
  | { kind: "cancel" };

export type Reply =
  | { id: number; answer: unknown }
  | { id: number; error: string }
  /** Of the question at work, 0 ... 1. */
  | { progress: number };

export const CANCELLED = "cancelled";
