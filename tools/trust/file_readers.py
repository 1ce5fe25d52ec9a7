"""The readers of posecov's files, each with small good files to begin with, which are made here: no data is needed."""

import contextlib
import csv
import io
import itertools
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import mutations
import numpy as np
from mutations import Mutate

MODULES = ("learn.config", "learn.checkpoint", "learn.datasets", "detectors", "video.results", "video.reading")
"""Of posecov, which the readers need."""

WIDTH, HEIGHT = 96, 64
_PICTURES = tuple(f"im{number:04d}.jpg" for number in range(1, 4))


@dataclass(frozen=True)
class Reader:
    """A kind of file, and what reads it.

    Attributes:
        seeds: makes files, by name; the endings count. All are good but those whose names start with ``bad-``.
        read: reads a file; raises what the reader raises.
        mutate: changes a seed.
    """

    seeds: Callable[[], Mapping[str, bytes]]
    read: Callable[[Path], Any]
    mutate: Mutate = mutations.raw


def prepare(folder: Path) -> None:
    """What stands beside the files: pictures that annotations name."""
    from PIL import Image

    for place in (folder, folder / "images"):
        place.mkdir(parents=True, exist_ok=True)
        for name in _PICTURES:
            Image.fromarray(_pixels()).save(place / name)


def _pixels(channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    layers = [(x * 2 + y * k) % 256 for k in range(channels)]
    return np.stack(layers, axis=2).astype(np.uint8)


def _saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(_pixels()).convert(mode).save(content, kind, **options)
    return content.getvalue()


def _jpegs() -> dict[str, bytes]:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a picture"
    return {
        "plain.jpg": _saved("JPEG"),
        "progressive.jpg": _saved("JPEG", progressive=True, exif=exif),
        "grey.jpg": _saved("JPEG", "L", quality=30),
        "cmyk.jpg": _saved("JPEG", "CMYK"),
    }


def _pngs() -> dict[str, bytes]:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("note", "x" * 400, zip=True)
    deep = io.BytesIO()
    Image.fromarray(_pixels()[..., 0].astype(np.uint16) * 257).save(deep, "PNG")
    return {
        "plain.png": _saved("PNG", pnginfo=text),
        "clear.png": _saved("PNG", "RGBA"),
        "palette.png": _saved("PNG", "P", transparency=3),
        "deep.png": deep.getvalue(),
        "one.png": _saved("PNG", "1"),
        "frames.png": _saved("PNG", save_all=True, append_images=[Image.fromarray(_pixels()[::-1].copy())], default_image=True),
    }


def _webps() -> dict[str, bytes]:
    from PIL import Image

    frames = [Image.fromarray(_pixels()[::-1].copy())]
    return {
        "lossy.webp": _saved("WEBP"),
        "lossless.webp": _saved("WEBP", "RGBA", lossless=True),
        "frames.webp": _saved("WEBP", save_all=True, append_images=frames),
    }


def _gifs() -> dict[str, bytes]:
    from PIL import Image

    frames = [Image.fromarray(_pixels()[::-1].copy()).convert("P")]
    return {
        "plain.gif": _saved("GIF", "P"),
        "frames.gif": _saved("GIF", "P", save_all=True, append_images=frames, loop=0),
        "clear.gif": _saved("GIF", "P", transparency=0),
    }


def _read_picture(path: Path) -> None:
    from posecov.images import decode_image, read_image
    from posecov.learn.datasets.pictures import picture_size

    size = picture_size(path)
    decode_image(path.read_bytes(), path.name, 40_000_000)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert size == image.shape[1::-1]


def _films() -> dict[str, bytes]:
    return {"h264.mp4": _film("libx264", "mp4"), "fragments.mp4": _film("libx264", "mp4", movflags="frag_keyframe+empty_moov")}


def _film(codec: str, kind: str, **options: str) -> bytes:
    import av

    content = io.BytesIO()
    with av.open(content, "w", format=kind, options=options) as container:
        stream: Any = container.add_stream(codec, rate=25, options={"preset": "ultrafast", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(np.roll(_pixels(), number, axis=1), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return content.getvalue()


def _read_film(path: Path) -> None:
    from posecov.video.reading import Film

    film = Film(str(path), threads=1)
    times = [frame.time for frame in film.frames()]
    assert all(a < b for a, b in itertools.pairwise(times))
    film.trouble()


def _points(joints: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(8, 56, (3, joints, 2)).astype(float)


def _lsp_mats() -> dict[str, bytes]:
    """LSP Extended's, compressed and not; and MATLAB's oldest format, which has no third axis."""
    import scipy.io

    joints = np.concatenate([_points(14), np.ones((3, 14, 1))], axis=2).transpose(1, 2, 0)
    found = {}
    for name, value, options in (
        ("packed", joints, {"do_compression": True}),
        ("plain", joints, {}),
        ("bad-old", joints[:, :, 0], {"format": "4"}),
    ):
        content = io.BytesIO()
        scipy.io.savemat(content, {"joints": value}, **options)
        found[f"{name}.mat"] = content.getvalue()
    return found


def _read_lsp(path: Path) -> None:
    from posecov.learn.datasets.lsp import read_lsp, read_lspet
    from posecov.learn.datasets.problems import Problems

    target = path.with_name("joints.mat")
    path.replace(target)
    with contextlib.suppress(_refusal()):
        read_lsp(path.parent, "train", Problems())
    read_lspet(path.parent, Problems())


def _structs(rows: list[dict[str, Any]]) -> np.ndarray:
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in rows[0]])
    for number, row in enumerate(rows):
        array[0, number] = tuple(row.values())
    return array


def _mpii_mats() -> dict[str, bytes]:
    import scipy.io

    pictures = []
    for name, person in zip(_PICTURES, _points(16), strict=True):
        rows = [{"x": x, "y": y, "id": float(i), "is_visible": "1" if i % 2 else 0.0} for i, (x, y) in enumerate(person)]
        corners = {"x1": 11.0, "y1": 21.0, "x2": 41.0, "y2": 61.0}
        pictures.append({"image": {"name": name}, "annorect": _structs([{**corners, "annopoints": {"point": _structs(rows)}}])})
    release = {"annolist": _structs(pictures), "img_train": np.ones((1, 3))}
    found = {}
    for name, packed in {"plain": False, "packed": True}.items():
        content = io.BytesIO()
        scipy.io.savemat(content, {"RELEASE": release}, do_compression=packed)
        found[f"{name}.mat"] = content.getvalue()
    return found


def _mpii_h5s(ending: str = "h5", start: bytes = b"") -> dict[str, bytes]:
    import h5py

    found = {}
    for name, options in {"plain": {}, "packed": {"compression": "gzip", "shuffle": True, "fletcher32": True}}.items():
        content = io.BytesIO()
        with h5py.File(content, "w", userblock_size=512 if start else 0) as file:
            file.create_dataset("imgname", data=np.array([name.encode() for name in _PICTURES]), **options)
            file.create_dataset("part", data=_points(16), **options)
            file.create_dataset("visible", data=np.ones((3, 16)), **options)
            file["index"], file["person"], file["normalize"] = np.arange(3.0), np.zeros(3), np.full(3, 12.5)
            file["joints"] = _points(14).transpose(1, 2, 0)
        found[f"{name}.{ending}"] = start + content.getvalue()[len(start) :]
    return found


def _new_mats() -> dict[str, bytes]:
    """MATLAB 7.3: HDF5 behind 512 bytes of MATLAB's header. None of the data sets comes so: all are refused."""
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created by a script HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM"
    return {f"bad-{name}": content for name, content in _mpii_h5s("mat", text.ljust(512, b"\0")).items()}


def _read_mpii(path: Path) -> None:
    from posecov.learn.datasets.mpii import read_mpii
    from posecov.learn.datasets.problems import Problems
    from posecov.learn.datasets.record import onto_skeleton
    from posecov.skeleton import load_skeleton

    problems = Problems()
    for record in onto_skeleton(read_mpii(path, problems), load_skeleton("lsp14"), problems):
        _inside(record.image, path.parent)
    problems.settle()


def _inside(picture: Path, folder: Path) -> None:
    assert picture.resolve().is_relative_to(folder.resolve()), f"{picture} is outside {folder}"


def _read_new_mat(path: Path) -> None:
    with contextlib.suppress(_refusal()):
        _read_mpii(path)
    _read_lsp(path)


def _refusal() -> type[Exception]:
    from posecov.errors import PosecovError

    return PosecovError


def _read_heads(path: Path) -> None:
    from posecov.learn.datasets.mpii_matlab import read_head_boxes

    read_head_boxes(path, 3)


def _head_mats() -> dict[str, bytes]:
    import scipy.io

    found = {}
    for name, packed in {"plain": False, "packed": True}.items():
        content = io.BytesIO()
        scipy.io.savemat(content, {"headboxes_src": np.arange(12.0).reshape(2, 2, 3)}, do_compression=packed)
        found[f"{name}.mat"] = content.getvalue()
    return found


def _csvs() -> dict[str, bytes]:
    from posecov.skeleton import load_skeleton

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    joints = [joint.replace("r_", "r ").replace("l_", "l ").replace("_", " ") for joint in load_skeleton("mpii16").keypoints]
    writer.writerow(["ID", "NAME", *(f"{joint}_{axis}" for joint in joints for axis in "XY"), "Scale"])
    for number, (name, person) in enumerate(zip(_PICTURES, _points(16), strict=True)):
        writer.writerow([number, name, *person.ravel(), 1.0])
    return {
        "boxes.csv": b"image,x,y,width,height\nim0001.jpg,1,2,30,40\nim0002.jpg,3,4,20.5,30\n",
        "mpii.csv": text.getvalue().encode(),
    }


def _read_csv(path: Path) -> None:
    first = path.read_bytes()[:200]
    if b"image" in first or b"width" in first:
        _read_boxes(path)
    else:
        _read_mpii(path)


def _box_jsons() -> dict[str, bytes]:
    box = [1, 2, 30, 40.5]
    images = [{"id": i, "file_name": name} for i, name in enumerate(_PICTURES)]
    annotations = [{"image_id": i, "bbox": box, "category_id": 1, "iscrowd": 0} for i in range(3)]
    documents = {
        "mapping": {"im0001.jpg": [box, box], "im0002.jpg": []},
        "detections": [{"file_name": name, "bbox": box} for name in _PICTURES],
        "coco": {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]},
        "results": [{"image_id": i, "category_id": 1, "bbox": box, "score": 0.9} for i in range(3)],
    }
    return {f"{name}.json": json.dumps(document).encode() for name, document in documents.items()}


def _read_boxes(path: Path) -> None:
    from posecov.boxes import boxes_of, check_ids, read_boxes

    found = read_boxes(path)
    pictures = [path.with_name(name) for name in _PICTURES]
    assert all(value.ndim == 2 and value.shape[1] == 4 and np.isfinite(value).all() for value in found.values())
    check_ids(path, found, pictures)
    for picture in pictures:
        boxes_of(found, picture)


def _fix_jsons() -> dict[str, bytes]:
    documents = [{"l_wrist": [1, 2], "r_knee": [3.5, 4]}, {"im0001.jpg": [{"l_wrist": [1, 2]}, {}]}, [{"l_wrist": [1, 2]}]]
    return {f"fix{number}.json": json.dumps(document).encode() for number, document in enumerate(documents)}


def _read_fixes(path: Path) -> None:
    from posecov.fixes import read_fixes

    for given in (str(path), path.read_bytes().decode("utf-8", "surrogateescape")):
        fixes = read_fixes(given)
        assert isinstance(fixes.joints, list)
        with contextlib.suppress(_refusal()):
            fixes.check([path.with_name(name) for name in _PICTURES])


def _coco_jsons() -> dict[str, bytes]:
    from posecov.skeleton import load_skeleton

    joints = load_skeleton("coco17").keypoints
    triples = np.concatenate([_points(17), np.full((3, 17, 1), 2)], axis=2)
    document = {
        "images": [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(_PICTURES)],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "iscrowd": 0,
                "area": 99.5,
                "bbox": [5, 5, 50, 50],
                "keypoints": row.ravel().tolist(),
            }
            for i, row in enumerate(triples)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(joints)}],
    }
    return {"coco.json": json.dumps(document).encode()}


def _read_coco(path: Path) -> None:
    from posecov.learn.datasets.coco import read_coco
    from posecov.learn.datasets.problems import Problems
    from posecov.learn.datasets.record import onto_skeleton
    from posecov.skeleton import load_skeleton

    problems = Problems()
    for record in onto_skeleton(read_coco(path, path.parent, problems), load_skeleton("lsp14"), problems):
        _inside(record.image, path.parent)
    problems.settle()


def _mpii_jsons() -> dict[str, bytes]:
    rows = [
        {"image": name, "joints": person.tolist(), "joints_vis": [1] * 16, "center": [1, 1], "scale": 1.0}
        for name, person in zip(_PICTURES, _points(16), strict=True)
    ]
    return {"train.json": json.dumps(rows).encode()}


def _frame_results() -> dict[str, bytes]:
    from posecov.exchanges import exchanges_of
    from posecov.skeleton import load_skeleton

    skeleton = load_skeleton("lsp14")
    exchanges = exchanges_of(skeleton)
    lower = np.eye(28)[np.tril_indices(28)].tolist()
    person = {"id": 1, "box": [1, 2, 30, 40], "keypoints": _points(14)[0].tolist(), "sigma": [1.0] * 14, "covariance": lower}
    header = {
        "format": "posecov-frames-1", "source": "walk.mp4", "width": WIDTH, "height": HEIGHT, "model": "m", "model_sha256": "0",
        "skeleton": skeleton.to_dict(), "degrees_of_freedom": 5.0,
    }  # fmt: skip
    weights = [1.0, *[0.0] * (len(exchanges) - 1)]
    mixed = {**person, "covariance": [value * 5 / 3 for value in lower], "components": {"weights": weights, "scatter": lower}}
    permutations = [list(exchange.permutation) for exchange in exchanges]
    documents = {
        "plain": [header, *({"frame": i, "time": i / 25, "people": [person]} for i in range(2))],
        "mixed": [{**header, "permutations": permutations}, {"frame": 0, "time": 0.0, "people": [mixed]}],
        "smooth": [{**header, "smooth": "offline"}, {"frame": 0, "time": 0.0, "people": [{**person, "measured": person}]}],
    }
    return {f"{name}.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode() for name, rows in documents.items()}


def _read_results(path: Path) -> None:
    from posecov.video.results import people_in, read_results

    with contextlib.suppress(_refusal()):
        people_in(path)
    for frame in read_results(path)[1]:
        for person in frame.people:
            assert np.isfinite(person.pose.covariance).all()


def _yamls() -> dict[str, bytes]:
    from posecov import resources

    found = {path.name: path.read_bytes() for path in resources.find("configs/skeletons").glob("*.yaml")}
    recipes = Path(__file__).resolve().parents[2] / "configs"
    return found | {f"recipe-{path.name}": path.read_bytes() for path in recipes.glob("*.yaml")}


def _read_yaml(path: Path) -> None:
    from posecov.learn.config import check, load_config
    from posecov.skeleton import load_skeleton

    if path.name.startswith("recipe-"):
        check(load_config(path))
    else:
        load_skeleton(path)


def _checkpoints() -> dict[str, bytes]:
    import torch
    from safetensors.torch import save

    from posecov.learn.checkpoint import FORMAT
    from posecov.learn.config import TrainConfig

    tensors = {"model/a": torch.arange(12.0).reshape(3, 4), "model/b": torch.ones(2, dtype=torch.int64)}
    facts = json.dumps({"format": FORMAT, "part": "covariance", "epoch": 3, "config": TrainConfig().to_dict()})
    return {"old.safetensors": save(tensors, metadata={"posecov": facts})}


def _checkpoint(content: bytes, chance: random.Random, seeds: Any) -> bytes:
    """The header's JSON by its structure, with the right length before it, or anything."""
    if chance.random() < 0.5:
        return mutations.raw(content, chance, seeds)
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    if chance.random() < 0.5 and isinstance(header.get("__metadata__"), dict):
        told = mutations.json_text(header["__metadata__"]["posecov"].encode(), chance, [b"[]"])
        header["__metadata__"]["posecov"] = told.decode("utf-8", "replace")
    else:
        header = mutations.structure(header, chance)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _read_checkpoint(path: Path) -> None:
    from posecov.learn.checkpoint import load_checkpoint
    from posecov.learn.config import TrainConfig

    tensors, facts = load_checkpoint(path)
    if "config" in facts:
        TrainConfig.from_dict(facts["config"], str(path))
    for tensor in tensors.values():
        tensor.double().sum()


def _metadata_text() -> str:
    from posecov.exchanges import exchanges_of
    from posecov.metadata import ModelMetadata
    from posecov.skeleton import Skeleton

    dots = Skeleton("dots", ("r_hand", "l_hand", "head"), (("r_hand", "l_hand"),), (("r_hand", "head"),))
    return ModelMetadata("tiny", dots, 32, (127.0,) * 3, (128.0,) * 3, 1.25, 5.0, exchanges_of(dots), {"note": "x"}).to_json()


def _metadata_jsons() -> dict[str, bytes]:
    return {"metadata.json": _metadata_text().encode()}


def _read_metadata(path: Path) -> None:
    from posecov.metadata import ModelMetadata

    ModelMetadata.from_json(path.read_bytes().decode("utf-8", "replace"), str(path)).to_json()


def _network(inputs: str, shape: list[Any], outputs: dict[str, list[int]], metadata: dict[str, str]) -> bytes:
    """Convolution, pooling and, for each output, a matrix product brought between 0 and 1."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", [inputs, "kernel"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
    ]
    arrays = {"kernel": rng.normal(size=(8, 3, 3, 3))}
    for name, sides in outputs.items():
        arrays[f"{name}_w"] = rng.normal(size=(8, int(np.prod(sides))))
        nodes.append(helper.make_node("MatMul", ["f", f"{name}_w"], [f"{name}_m"]))
        if name == "weights":
            nodes.append(helper.make_node("Softmax", [f"{name}_m"], [name], axis=1))
            continue
        nodes.append(helper.make_node("Sigmoid", [f"{name}_m"], [f"{name}_p"]))
        nodes.append(helper.make_node("Reshape", [f"{name}_p", f"{name}_s"], [name]))
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    constants += [numpy_helper.from_array(np.array([-1, *sides]), f"{name}_s") for name, sides in outputs.items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], *sides]) for name, sides in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


def _pose_networks() -> dict[str, bytes]:
    shapes = {"keypoints": [3, 2], "covariance": [6, 6], "scatter": [6, 6], "weights": [2]}
    return {"pose.onnx": _network("image", ["N", 3, 32, 32], shapes, {"posecov": _metadata_text()})}


def _read_pose_network(path: Path) -> None:
    from posecov.model import PoseModel

    model = PoseModel(path, threads=1, providers=["CPUExecutionProvider"])
    size = model.metadata.input_size
    model.predict(np.zeros((2, size, size, 3), dtype=np.uint8))


def _detectors() -> dict[str, bytes]:
    names = {"names": "{0: 'person', 1: 'dog'}", "imgsz": "[64, 64]"}
    return {
        "yolov8.onnx": _network("images", [1, 3, 64, 64], {"out": [6, 84]}, names),
        "free.onnx": _network("images", [1, 3, "h", "w"], {"out": [10, 6]}, names),
        "queries.onnx": _network("images", [1, 3, 64, 64], {"dets": [10, 4], "labels": [10, 91]}, {}),
    }


def _read_detector(path: Path) -> None:
    from posecov.detectors import PersonDetector

    detector = PersonDetector(path, threads=1, providers=["CPUExecutionProvider"])
    boxes, scores = detector(_pixels())
    assert boxes.shape == (len(scores), 4)


READERS: dict[str, Reader] = {
    "jpeg": Reader(_jpegs, _read_picture),
    "png": Reader(_pngs, _read_picture, mutations.png),
    "webp": Reader(_webps, _read_picture),
    "gif": Reader(_gifs, _read_picture),
    "mp4": Reader(_films, _read_film, mutations.boxes),
    "mat5-lsp": Reader(_lsp_mats, _read_lsp),
    "mat5-mpii": Reader(_mpii_mats, _read_mpii),
    "mat5-heads": Reader(_head_mats, _read_heads),
    "mat73": Reader(_new_mats, _read_new_mat),
    "hdf5": Reader(_mpii_h5s, _read_mpii),
    "csv": Reader(_csvs, _read_csv, mutations.table),
    "json-boxes": Reader(_box_jsons, _read_boxes, mutations.json_text),
    "json-fixes": Reader(_fix_jsons, _read_fixes, mutations.json_text),
    "json-coco": Reader(_coco_jsons, _read_coco, mutations.json_text),
    "json-mpii": Reader(_mpii_jsons, _read_mpii, mutations.json_text),
    "json-results": Reader(_frame_results, _read_results, mutations.json_text),
    "yaml": Reader(_yamls, _read_yaml, mutations.yaml_text),
    "safetensors": Reader(_checkpoints, _read_checkpoint, _checkpoint),
    "metadata": Reader(_metadata_jsons, _read_metadata, mutations.json_text),
    "onnx": Reader(_pose_networks, _read_pose_network, mutations.network),
    "onnx-detector": Reader(_detectors, _read_detector, mutations.network),
}
"""By name."""
