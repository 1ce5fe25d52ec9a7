/** What a model says about itself, read from its .onnx file (posecov/metadata.py). */

import type { LawFacts } from "../pose/pose";

const FORMAT = 2;

export interface Metadata extends LawFacts {
  format: number;
  name: string;
  input_size: number;
  pixel_mean: [number, number, number];
  pixel_std: [number, number, number];
  padding: number;
}

/**
 * The metadata inside a model file.
 *
 * An .onnx file is a protobuf message; its field 14 are entries of a key (1) and a value (2), and one of the keys is posecov's.
 *
 * @throws Error that says what is wrong, in one line.
 */
export function readMetadata(file: Uint8Array): Metadata {
  let text: string | undefined;
  try {
    for (const [field, entry] of messageFields(file)) {
      if (field !== 14) continue;
      const parts = new Map(messageFields(entry));
      if (decode(parts.get(1)) === "posecov") text = decode(parts.get(2));
    }
  } catch (error) {
    if (error instanceof RangeError) throw new Error("the model is damaged; load the page again");
    throw error;
  }
  if (text === undefined) throw new Error("this is no posecov model");
  const fields = JSON.parse(text) as Metadata;
  if (!(fields.format >= 1 && fields.format <= FORMAT)) throw new Error("the model is newer than this page; load the page again");
  fields.exchanges ??= [];
  return fields;
}

const decode = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes ?? new Uint8Array());

/** The length-delimited fields of a message; others are passed over. RangeError where it is none. */
function* messageFields(bytes: Uint8Array): Generator<[number, Uint8Array]> {
  let at = 0;
  const varint = (): number => {
    let [value, scale] = [0, 1];
    for (;;) {
      if (at >= bytes.length || scale > 2 ** 63) throw new RangeError("cut short");
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      if (at + length > bytes.length) throw new RangeError("cut short");
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new RangeError("no protobuf");
  }
}
