"""Small data sets of one's own through every command: who has ten pictures must get a model or one line that says what to do.

    python tools/trust/newcomer.py --out DIR [--only NAME ...]

Draws each data set, with a skeleton and a recipe, and runs tools/inspect_data.py, train.py, calibrate.py, export_onnx.py and
evaluate.py on it, then `posecov image`. A toy backbone learns nothing much; that everything fits together is what counts. Ends
with exit code 1 when a command raised, or ended otherwise than the table below says.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
import yaml
from rich.console import Console
from rich.progress import track

from posecov.commands.terminal import needs_training_packages

JOINTS = ("nose", "neck", "tail", "left_paw", "right_paw")
PAWS = (("left_paw", "right_paw"),)


@dataclass(frozen=True)
class Case:
    """A data set and its recipe.

    Attributes:
        what: is small or odd about it.
        pictures: how many.
        joints: labelled ones, the skeleton's too.
        skeleton: further fields of the skeleton.
        data, mean, covariance: settings of the recipe.
        box: whether annotations have one.
        lacking: joint that has no label in the pictures but the first two.
        refused: part of the one line that training must end with; empty: everything must work.
    """

    what: str
    pictures: int = 10
    joints: tuple[str, ...] = JOINTS
    skeleton: dict[str, Any] = field(default_factory=lambda: {"flip_pairs": PAWS})
    data: dict[str, Any] = field(default_factory=lambda: {"validation_count": 3})
    mean: dict[str, Any] = field(default_factory=dict)
    covariance: dict[str, Any] = field(default_factory=dict)
    box: bool = False
    lacking: str = ""
    refused: str = ""


CASES = {
    "plain": Case("ten pictures, five joints, no limbs, no torso"),
    "torso": Case(
        "with limbs and a torso", skeleton={"flip_pairs": PAWS, "limbs": [["neck", "tail"]], "torso": ["neck", "tail"]}
    ),
    "two-held": Case("two validation people", data={"validation_count": 2}),
    "four": Case("four pictures", pictures=4, data={"validation_count": 2}),
    "many-steps": Case("seen ten times an epoch", data={"validation_count": 3, "repeat": [10]}),
    "batch-of-two": Case("batches of two, one person over", mean={"batch": 2}, covariance={"batch": 2}),
    "no-sides": Case("no left and right", joints=JOINTS[:3], skeleton={}),
    "two-joints": Case("two joints", joints=JOINTS[:2], skeleton={}),
    "one-joint": Case("one joint, with boxes", joints=JOINTS[:1], skeleton={}, box=True),
    "single-law": Case("a single Student-t", covariance={"phase2_loss": "student-t"}),
    "gaussian": Case("a Gaussian", covariance={"phase2_loss": "nll"}),
    "phase-2-alone": Case("no phase 1", covariance={"phase1_epochs": 0}),
    "shared": Case("the covariance learns from others", data={"validation_count": 2, "mean_share": 0.5}),
    "sixty": Case("sixty pictures: a calibration proper", pictures=120, data={"validation_count": 60}),
    "seldom": Case("a joint labelled twice", lacking="tail", refused="data.validation_count"),
    "never-tenth": Case("more held out than there are", data={"validation_count": 10}, refused="data.validation_count"),
    "default-count": Case("the default count", data={}, refused="data.validation_count"),
    "one-held": Case("one validation person", data={"validation_count": 1}, refused="at least 2"),
    "sides-untold": Case("no flip pairs for left and right", skeleton={}, refused="flip_pairs"),
    "no-box": Case("one joint, no boxes", joints=JOINTS[:1], skeleton={}, refused="give it a bbox"),
    "other-names": Case("joints of other names", skeleton={"keypoints": ["nose", "neck", "rump"]}, refused="rump"),
}


@dataclass(frozen=True)
class Options:
    """Small data sets of one's own through every command."""

    out: Path
    """Folder for data sets, runs and models."""
    only: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(all)")] = ()
    """Names of cases, instead of all."""
    seed: int = 1
    """Of the drawings."""


def draw(folder: Path, case: Case, seed: int) -> None:
    """Dogs of sticks, their labels as COCO keypoints, skeleton and recipe."""
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(case.pictures):
        picture = cv2.GaussianBlur(rng.integers(90, 160, (240, 320, 3), dtype=np.uint8), (0, 0), 4)
        offsets = np.array([[70, -20], [40, -5], [-50, -10], [30, 60], [-30, 60]]) + rng.normal(0, 6, (5, 2))
        points = dict(zip(JOINTS, np.round([160, 110] + rng.normal(0, 15, 2) + offsets, 1), strict=True))
        for a, b in (("neck", "tail"), ("neck", "nose"), ("neck", "left_paw"), ("tail", "right_paw")):
            ends = [tuple(int(v) for v in points[name]) for name in (a, b)]
            cv2.line(picture, ends[0], ends[1], (40, 60, 60 + 20 * JOINTS.index(b)), 14, cv2.LINE_AA)
        cv2.imwrite(str(folder / "photos" / f"dog{number}.png"), picture)
        images.append({"id": number, "file_name": f"dog{number}.png"})
        seen = [0 if name == case.lacking and number > 1 else 2 for name in case.joints]
        keypoints = [value for name, v in zip(case.joints, seen, strict=True) for value in (*points[name], v)]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "keypoints": keypoints})
        if case.box:
            annotations[-1]["bbox"] = [*(np.min(list(points.values()), axis=0) - 10), 140, 100]
    categories = [{"id": 1, "name": "dog", "keypoints": list(case.joints)}]
    (folder / "dogs.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    skeleton = {"name": "dog", "keypoints": list(case.joints)} | json.loads(json.dumps(case.skeleton))
    (folder / "dog.yaml").write_text(yaml.safe_dump(skeleton))
    boxes = {image["file_name"]: [[80, 60, 160, 130]] for image in images}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    recipe = {
        "name": "dogs", "skeleton": "dog.yaml", "device": "cpu", "threads": 1, "workers": 0,
        "data": {"datasets": ["dogs.json@photos"]} | case.data,
        "model": {"backbone": "test_efficientnet", "pretrained": False, "input_size": 64, "channels": 16},
        "mean": {"epochs": 2} | case.mean,
        "covariance": {"views": 1, "phase1_epochs": 1, "phase2_epochs": 2} | case.covariance,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


COMMANDS = (
    ("inspect_data", "recipe.yaml --out look --people 4"),
    ("train", "recipe.yaml"),
    ("calibrate", "runs/dogs/best.safetensors calibrated.safetensors --epochs 2"),
    ("export_onnx", "calibrated.safetensors dogs.onnx --crops 8"),
    ("evaluate", "--weights dogs.onnx --dataset dogs.json@photos --json figures.json --resamples 20 --draws 16"),
    ("posecov", "image photos/dog0.png photos/dog1.png --model dogs.onnx --out poses --labels --boxes boxes.json"),
    ("posecov", "rank photos --model dogs.onnx --out ranking"),
)


def call(tool: str, arguments: str, tools: Path) -> tuple[int, str]:
    """Exit code of a command in the working folder, and what it said; -1 with a traceback where it raised."""
    path, argv, said = tools / f"{tool}.py", sys.argv, io.StringIO()
    sys.argv = [str(path), *arguments.split()]
    code = 0
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if tool == "posecov":
                from posecov.cli import main

                code = main()
            else:
                runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception:
        said.write(traceback.format_exc())
        code = -1
    finally:
        sys.argv = argv
    return code, said.getvalue()


def run_case(case: Case, folder: Path, seed: int, tools: Path) -> list[str]:
    """What went wrong, a line each."""
    draw(folder, case, seed)
    here = Path.cwd()
    os.chdir(folder)
    log = []
    try:
        for tool, arguments in COMMANDS:
            code, said = call(tool, arguments, tools)
            log.append(f"$ {tool} {arguments}\n{said}[{code}]\n")
            lines = [line for line in said.splitlines() if line.startswith(f"{tool}: ")]
            if code == -1:
                return [f"{tool} raised: {said.splitlines()[-1]}"]
            if case.refused and tool == "train":
                fine = code == 2 and len(lines) == 1 and case.refused in lines[0]
                return [] if fine else [f"train: should end with one line about {case.refused!r}: {code}, {lines}"]
            if code and not case.refused:
                return [f"{tool} ended with {code}: {' '.join(lines) or said[-300:]}"]
        poses = json.loads(Path("poses/dog0.json").read_text())["people"]
        if len(poses) != 1 or not np.isfinite(poses[0]["covariance"]).all():
            return ["posecov image: no pose in the box, or one that is not finite"]
        return []
    finally:
        os.chdir(here)
        (folder / "log.txt").write_text("".join(log))


def main() -> int:
    """Run the command line."""
    options = tyro.cli(Options)
    # tools/train.py would start this program anew with other settings of the allocator.
    os.environ["POSECOV_LEAVE_MALLOC"] = "1"
    os.environ.pop("POSECOV_DATA", None)
    tools, out = Path(__file__).resolve().parents[1], options.out.resolve()
    if unknown := set(options.only) - set(CASES):
        print(f"newcomer: no case {sorted(unknown)[0]!r}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    console, broken = Console(stderr=True), 0
    names = options.only or tuple(CASES)
    for name in track(names, "data sets", console=console, transient=True):
        wrong = run_case(CASES[name], out / name, options.seed, tools)
        broken += bool(wrong)
        says = "; ".join(wrong) or (f"refused: ... {CASES[name].refused}" if CASES[name].refused else "a model")
        print(f"{'BROKE' if wrong else 'ok':5s} {name:14s} {CASES[name].what:45s} {says}", flush=True)
    print(f"{len(names)} data sets, {broken} broke; each command's words are in {out}/*/log.txt")
    return 1 if broken else 0


if __name__ == "__main__":
    needs_training_packages("newcomer")
    sys.exit(main())
