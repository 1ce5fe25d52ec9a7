"""A pose and its covariance without posecov (../FORMAT.md): python consumer.py MODEL.onnx PICTURE X Y WIDTH HEIGHT"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def sampling(offset, scale, size, extent):
    """For one axis of a picture: the part low:high, what averages its areas, and what takes the crop's pixels from those."""
    factor = max(1 / scale, 1.0)
    low = int(np.clip(np.floor(-offset / scale - 2 * factor), 0, extent - 1))
    high = int(np.clip(np.ceil((size - 1 - offset) / scale + 2 * factor) + 1, low + 1, extent))
    count, pixels = max(round((high - low) / factor), 1), np.arange(high - low)
    ratio = (high - low) / count
    edges = np.arange(count)[:, None] * ratio
    areas = np.maximum(np.minimum(edges + ratio, pixels + 1) - np.maximum(edges, pixels), 0) / ratio
    at = ((np.arange(size) - offset) / scale - low + 0.5) / ratio - 0.5
    return slice(low, high), areas, np.maximum(1 - np.abs(at[:, None] - np.arange(count)), 0)


def estimate(session, picture, box):
    """RGB picture (H, W, 3) uint8 and box x, y, width, height to the metadata and the outputs in picture pixels."""
    facts = json.loads(session.get_modelmeta().custom_metadata_map["posecov"])
    scale = facts["input_size"] / (max(box[2:]) * facts["padding"])
    offset = (facts["input_size"] - 1) / 2 - scale * np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])
    (columns, *across), (rows, *down) = (sampling(offset[i], scale, facts["input_size"], picture.shape[1 - i]) for i in (0, 1))
    crop = picture[rows, columns].transpose(2, 0, 1) - 127.0
    for vertical, horizontal in zip(down, across, strict=True):
        crop = np.round(vertical @ crop @ horizontal.T)
    mean, std = (np.reshape(facts[key], (3, 1, 1)) for key in ("pixel_mean", "pixel_std"))
    outputs = session.run(None, {"image": ((crop + 127 - mean) / std)[None].astype(np.float32)})
    found = {node.name: value[0].astype(float) for node, value in zip(session.get_outputs(), outputs, strict=True)}
    found["keypoints"] = (found["keypoints"] - offset) / scale
    return facts, found | {n: (m + m.T) / 2 / scale**2 for n, m in found.items() if n in ("covariance", "scatter")}


if __name__ == "__main__":
    model, file, *box = sys.argv[1:] if len(sys.argv) == 7 else sys.exit(__doc__)
    photo = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
    facts, found = estimate(onnxruntime.InferenceSession(model), photo, [float(v) for v in box])
    sigmas = np.sqrt(np.diag(found["covariance"]).reshape(-1, 2).mean(axis=1))
    for name, place, sigma in zip(facts["skeleton"]["keypoints"], found["keypoints"], sigmas, strict=True):
        print(f"{name:12s} {place[0]:8.1f} {place[1]:8.1f}  +- {sigma:.1f} px")
