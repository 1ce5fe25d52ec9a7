import { describe, expect, it } from "vitest";
import { cropMap, warp, type Box, type Pixels } from "../src/worker/geometry";
import { consistencyOf, findPerson, personBox, stillThere, together, windows, type Found } from "../src/worker/search";
import sample from "../src/sample.json";
import fixture from "./fixture.json";

/** The picture that tools/web_sample.py draws, whose channels are in the order blue, green, red. */
function drawn(width: number, height: number): Pixels {
  const data = new Uint8Array(4 * width * height).fill(255);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      [[31, 3.7], [5, -23], [9, 17]].forEach(([a, b], channel) => {
        data[4 * (y * width + x) + channel] = Math.round(127.5 + 127.5 * Math.sin(x / a + y / b));
      });
    }
  }
  return { data, width, height };
}

describe.each(fixture.crops)("the crop of $box in $width x $height", ({ width, height, box, map: wanted, pixels }) => {
  const { input_size: size, padding } = sample.model;
  const map = cropMap(box as unknown as Box, size, padding);

  it("has Python's map", () => {
    expect(map.scale).toBeCloseTo(wanted[0][0], 12);
    expect(map.x).toBeCloseTo(wanted[0][2], 9);
    expect(map.y).toBeCloseTo(wanted[1][2], 9);
  });

  it("has Python's pixels", () => {
    const crop = warp(drawn(width, height), map, size);
    let worst = 0;
    pixels.forEach((row, j) =>
      row.forEach((pixel, i) =>
        pixel.forEach((value, c) => {
          worst = Math.max(worst, Math.abs(crop[3 * (13 * j * size + 13 * i) + 2 - c] - value));
        }),
      ),
    );
    expect(worst).toBeLessThanOrEqual(1);
  });
});

describe("the search", () => {
  const nu = sample.model.degrees_of_freedom;
  const covariance = Float64Array.from(sample.scatter.flat(), (value) => value * (nu / (nu - 2)));
  const keypoints = Float64Array.from(sample.keypoints.flat());

  it.each(Object.entries(fixture.search.windows))("looks at Python's windows of %s", (size, wanted) => {
    const [width, height] = size.split("x").map(Number);
    const found = windows(width, height, sample.model.padding).flat();
    wanted.flat().forEach((value, i) => expect(found[i]).toBeCloseTo(value, 9));
    expect(found.length).toBe(wanted.flat().length);
  });

  it("puts Python's box around a pose", () => {
    personBox({ keypoints, covariance }).forEach((value, i) => expect(value).toBeCloseTo(fixture.search.person_box[i], 3));
  });

  it("finds a pose as consistent as Python does", async () => {
    const box = sample.box as unknown as Box;
    const predict = async (boxes: readonly Box[]): Promise<Found[]> =>
      boxes.map((own) => ({
        keypoints: keypoints.map((value, row) => value + ((row >> 1) % 2) * 0.5 * (own[row % 2] - box[row % 2])),
        covariance: covariance.map((value) => value / 9),
        presence: null,
      }));
    expect((await consistencyOf(predict, [box], await predict([box])))[0]).toBeCloseTo(fixture.search.consistency, 5);
  });

  it("believes in people as Python does", () => {
    for (const { presence, consistency, probability } of fixture.search.together) {
      expect(together(presence, consistency)).toBeCloseTo(probability, 9);
    }
  });

  it.each([
    [0.9, true],
    [0.01, false],
  ])("believes a model that says %d", async (presence, there) => {
    let crops = 0;
    const predict = async (boxes: readonly Box[]): Promise<Found[]> => {
      crops += boxes.length;
      return boxes.map(() => ({ keypoints, covariance, presence }));
    };
    const found = await findPerson(predict, sample.width, sample.height, sample.model.padding);
    expect(found).toEqual(there ? personBox({ keypoints, covariance }) : null);
    expect(crops).toBe(windows(sample.width, sample.height, sample.model.padding).length + 2 + 4);
    expect(await stillThere(predict, sample.box as unknown as Box)).toBe(there);
  });
});
