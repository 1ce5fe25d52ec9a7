"""Write a shipped model's card and checksum from the figures that the other tools measured.

    python tools/model_card.py --weights weights/posecov-lsp14-small.onnx --figures weights/figures

FIGURES holds NAME-evaluation.json (tools/evaluate.py), NAME-ablation.json (tools/experiments/pose.py) and
NAME-benchmark.json (tools/benchmark.py inference). Writes NAME.md beside the model, SHA256SUMS, and the table between the
README's markers. Exit code 2 when something is missing, or was measured on another file.
"""

import hashlib
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from posecov import PosecovError, evaluation
from posecov.files import write_atomic
from posecov.metadata import ModelMetadata
from posecov.model import PoseModel

_CARD = """# {name}

Keypoints with a full, calibrated joint covariance: {joints} joints ({skeleton}), {size} x {size} px crops, {megabytes:.1f} MB.
{law} with {nu:.2f} degrees of freedom. SHA-256 `{sha}`.

    from posecov import PoseEstimator
    estimator = PoseEstimator("weights/{name}.onnx")

## Data and terms

Trained on {data}: Leeds Sports Pose (Johnson and Everingham, BMVC 2010; training images 1..1000, some of them kept
for validation) and LSP Extended (CVPR 2011), pictures of sports people gathered from Flickr. The backbone
started from ImageNet weights (`tf_efficientnet_lite0`,
Apache-2.0). These data sets are for **research use**: check their terms before you use this model for anything else. The
project's code is Apache-2.0.

## Recipe

`configs/{recipe}-160.yaml`, then `configs/{recipe}.yaml`: the mean on pictures (at 160 px, then {mean_epochs} epochs at
{size} px), then, with the mean frozen, the covariance head: phase 1, the 2-Wasserstein bound on covariance pseudo-labels of
feature-space neighbours ({wasserstein_epochs} epochs); phase 2, the likelihood of the law above ({nll_epochs} epochs),
both in the Taylor-induced parameterisation. Scale, degrees of freedom and a shrinkage of correlations between joints were
calibrated on {calibrated_on}.
No setting was chosen by a figure of the test images, with one reservation: that correlations shrink at all was added after a
first evaluation had covered 56 % of joints at 50 %; how far they shrink is chosen on the validation people.

    python tools/train.py configs/{recipe}-160.yaml
    python tools/train.py configs/{recipe}.yaml
    python tools/calibrate.py runs/{name}/best.safetensors runs/{name}/calibrated.safetensors
    python tools/export_onnx.py runs/{name}/calibrated.safetensors weights/{name}.onnx

## Figures

LSP test images 1001..2000, boxes from labels, through `PoseEstimator`. Each rival has the same means and its own refitted
Student-t law; its constants come from the other half of the test images.

    python tools/evaluate.py --weights weights/{name}.onnx --dataset lsp --data-root DIR \\
        --json weights/figures/{name}-evaluation.json

{evaluation}

### What the parts are worth

Frozen mean, {ablation_epochs} epochs for every row, seeds {seeds}, calibrated alike, LSP test images; NLL in nats per person
and TAC in picture pixels as mean (range). The free term k3 carries the rest of the trace.

    {ablation_command}

| covariance head | NLL | TAC, px | trace in J J^T | in curvature |
|---|---|---|---|---|
{ablation}

### Speed

{speed}

    python tools/benchmark.py inference --weights weights/{name}.onnx --json weights/figures/{name}-benchmark.json

## Limits

- One person per box. Sports people, mostly whole and in motion, about 150 px tall; small children, crowds, people seen from
  above or cut off by the picture's edge are rare in the data.
- Swapped left and right limbs cause most large errors{swaps}.
- Calibrated for boxes like those of labels (the extent of the joints, enlarged by 10 % of the longer side). Boxes that are
  much looser or tighter, and the search without boxes, make errors that it has not been calibrated for.
- Far from the training data the covariance is a guess like the mean.
"""


@dataclass(frozen=True)
class Options:
    """Write a shipped model's card and checksum."""

    weights: Path
    """The .onnx file."""
    figures: Path = Path("weights/figures")
    """Folder of the measured figures."""
    readme: Path = Path("README.md")
    """Where the short table goes, between its two markers."""


def main(options: Options) -> None:
    """Write NAME.md, SHA256SUMS and the README's table. Raises PosecovError."""
    metadata = PoseModel(options.weights, threads=1).metadata
    sha = hashlib.sha256(options.weights.read_bytes()).hexdigest()
    figures = {
        kind: _read(options.figures / f"{options.weights.stem}-{kind}.json") for kind in ("evaluation", "ablation", "benchmark")
    }
    if figures["evaluation"].get("sha256") != sha:
        raise PosecovError(f"{options.weights}: its evaluation is of another file; run tools/evaluate.py again")
    card = _card(metadata, sha, options.weights, figures)
    write_atomic(options.weights.with_suffix(".md"), card.encode())
    models = sorted(options.weights.parent.glob("*.onnx"))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in models)
    write_atomic(options.weights.parent / "SHA256SUMS", sums.encode())
    readme = options.readme.read_text(encoding="utf-8") if options.readme.is_file() else ""
    if not 0 <= readme.find(_MARKERS[0]) < readme.find(_MARKERS[1]):
        raise PosecovError(f"{options.readme}: has no place for the table; it goes between {_MARKERS[0]} and {_MARKERS[1]}")
    before, rest = readme.split(_MARKERS[0])
    after = rest.split(_MARKERS[1])[1]
    table = _short_table(figures["evaluation"], figures["benchmark"])
    write_atomic(options.readme, f"{before}{_MARKERS[0]}\n{table}\n{_MARKERS[1]}{after}".encode())
    print(options.weights.with_suffix(".md"))


_MARKERS = ("<!-- figures: written by tools/model_card.py -->", "<!-- end of figures -->")


def _short_table(report: dict[str, Any], speed: dict[str, Any]) -> str:
    """The figures that a newcomer asks for."""
    laws = report["laws"]
    rows = [
        ("NLL, nats per person (crop pixels)", lambda f: f"{f['nll']['frame']:.2f}"),
        ("error of a joint when the others are known (TAC)", lambda f: f"{f['tac']['pixels']:.2f} px"),
        ("rank correlation of sigma and error, within joints", lambda f: f"{f['rank_correlation']['person_sizes']:.2f}"),
        ("people inside their 50 / 68 / 90 / 95 % region", lambda f: _percents(f["coverage"]["joint"])),
        ("joints inside their 50 / 68 / 90 / 95 % ellipse", lambda f: _percents(f["coverage"]["per_joint"])),
    ]
    names = {
        "model": "posecov",
        "constant_covariance": "constant covariance",
        "constant_correlation": "constant correlation",
        "average_weights": "average weights",
        "mixture_constant_correlation": "mixture, constant correlation",
    }
    lines = [
        f"| LSP test, {report['people']} people | {' | '.join(names[law] for law in laws)} |",
        "|---" * (len(laws) + 1) + "|",
    ]
    lines += [f"| {title} | {' | '.join(pick(laws[law]) for law in laws)} |" for title, pick in rows]
    return (
        "\n".join(lines)
        + f"\n\nPCK@0.2 of the torso {report['pck']['mean']:.3f}, mean error {report['mean_error']['pixels']:.1f} px; "
        f"one crop takes {speed['crop_ms']:.0f} ms on one CPU thread.\nThe rivals have the same means and their own law: "
        "one covariance for everybody, scaled by the person's size;\nand our sigmas with one correlation for everybody."
        + (_MIXTURES if "average_weights" in laws else "")
    )


_MIXTURES = (
    " Those two are single Student-t's;\nthe others are mixtures over exchanges of left and right like ours, one with the same "
    "weights, one with the same\ncorrelation for everybody."
)


def _percents(shares: dict[str, float]) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares.values())


def _card(metadata: ModelMetadata, sha: str, weights: Path, figures: dict[str, Any]) -> str:
    ablation, speed, facts = figures["ablation"], figures["benchmark"], metadata.description
    several, rows = bool(metadata.exchanges), []
    for name, seeds in ablation["variants"].items():
        cells = [_range([f["nll"] for f in seeds.values()], 2), _range([f["tac"] for f in seeds.values()], 3)]
        shares = [f"{100 * statistics.mean(f[key] for f in seeds.values()):.1f} %" for key in ("k1_share", "k2_share")]
        rows.append(f"| {name} | {' | '.join(cells + shares)} |")
    return _CARD.format(
        name=weights.stem,
        recipe=facts["recipe"],
        joints=len(metadata.skeleton),
        skeleton=metadata.skeleton.name,
        size=metadata.input_size,
        megabytes=weights.stat().st_size / 1e6,
        law=f"Mixture of {len(metadata.exchanges)} Student-t's over exchanges of left and right"
        if several
        else "Student-t law",
        swaps="" if several else '; a single Student-t does not say "or the other way round"',
        nu=metadata.degrees_of_freedom,
        sha=sha,
        data=" and ".join(name.upper() for name in facts["data"]),
        calibrated_on=facts["calibrated_on"],
        **{key: facts["epochs"][part] for key, part in _EPOCHS.items()},
        evaluation=evaluation.markdown(figures["evaluation"]).strip(),
        ablation_epochs=sum(ablation["epochs"].values()),
        seeds=", ".join(next(iter(ablation["variants"].values()))),
        ablation_command=ablation["command"],
        ablation="\n".join(rows),
        speed=(
            f"One crop in the network {speed['crop_ms']:.1f} ms, one box of a 640 x 480 picture {speed['box_ms']:.1f} ms "
            f"({speed['threads']} thread); `from posecov import PoseEstimator` {speed['import_s']:.2f} s."
        ),
    )


_EPOCHS = {"mean_epochs": "mean", "wasserstein_epochs": "wasserstein", "nll_epochs": "nll"}


def _range(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise PosecovError(f"{path}: cannot read these figures; measure them first") from None


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, prog="tools/model_card.py"))
    except PosecovError as error:
        print(f"model_card: {error}", file=sys.stderr)
        sys.exit(2)
