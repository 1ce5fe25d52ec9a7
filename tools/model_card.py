"""Write a shipped model's card and checksum from the figures that the other tools measured.

    python tools/model_card.py --weights weights/posecov-lsp14-small.onnx --figures weights/figures

FIGURES holds NAME-evaluation.json and, of another data set, NAME-coco.json (tools/evaluate.py), NAME-benchmark.json
(tools/benchmark.py inference) and, of a model that tells whether somebody is there, NAME-presence.json (tools/presence.py).
Writes NAME.md beside the model, SHA256SUMS, and the tables between the README's markers, which are about all models there. Exit
code 2 when something is missing, or was measured on another file.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
import yaml

from posecov import PosecovError, evaluation
from posecov.files import write_atomic
from posecov.metadata import ModelMetadata
from posecov.model import PRESENCE, PoseModel

_CARD = """# {name}

Keypoints with a full, calibrated joint covariance: {joints} joints ({skeleton}), {size} x {size} px crops, {megabytes:.1f} MB.
{law} with {nu:.2f} degrees of freedom. SHA-256 `{sha}`.

    from posecov import PoseEstimator
    estimator = PoseEstimator("weights/{name}.onnx")

## Data and terms

Trained on {data}: Leeds Sports Pose (Johnson and Everingham, BMVC 2010; training images 1..1000, some of them kept
for validation) and LSP Extended (CVPR 2011), pictures of sports people gathered from Flickr. The backbone
started from ImageNet weights (`{backbone}`,
Apache-2.0). These data sets are for **research use**: check their terms before you use this model for anything else. The
project's code is Apache-2.0.

## Recipe

{steps}. Each step trains the mean on pictures; the last one
for {mean_epochs} epochs at {size} px. Then, with the mean frozen, the covariance head: phase 1, the 2-Wasserstein distance to
covariance pseudo-labels of feature-space neighbours ({wasserstein_epochs} epochs); phase 2, the likelihood of the law above
({nll_epochs} epochs), both in the Taylor-induced parameterisation. Calibration, on {calibrated_on}:
the head learned on from them for {adapted_epochs} epochs, as many as cross-validation over folds of them found best; then one
factor on each joint's sigma, degrees of freedom, a shrinkage of correlations between joints, and temperature and shift of the
weights of exchanges, with everybody judged by a head that had not seen them. No setting was chosen by a figure of the test
images.

{train_lines}
    python tools/calibrate.py runs/{name}/best.safetensors runs/{name}/calibrated.safetensors
    python tools/export_onnx.py runs/{name}/calibrated.safetensors weights/{name}.onnx
{presence_line}
## Figures

LSP test images 1001..2000, boxes from labels, through `PoseEstimator`. Each rival has the same means and its own refitted
law; its constants come from the other half of the test images.

    python tools/evaluate.py --weights weights/{name}.onnx --dataset lsp --data-root DIR \\
        --json weights/figures/{name}-evaluation.json

{evaluation}

PCK@0.2 over the 12 joints without neck and head top: {pck12:.3f}.

### Other pictures

{elsewhere}

{presence}### What the parts are worth

[tools/experiments/README.md](../tools/experiments/README.md) takes the recipe apart, held out and with several seeds, on a mean
that half of the people trained.

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
    stem = options.weights.stem
    figures = {kind: _read(options.figures / f"{stem}-{kind}.json") for kind in ("evaluation", "coco", "benchmark")}
    for kind in ("evaluation", "coco"):
        if figures[kind].get("sha256") != sha:
            raise PosecovError(f"{options.weights}: its {kind} figures are of another file; run tools/evaluate.py again")
    if PRESENCE in metadata.description:
        figures[PRESENCE] = _read(options.figures / f"{stem}-{PRESENCE}.json")
        if figures[PRESENCE].get("sha256") != sha:
            raise PosecovError(f"{options.weights}: its {PRESENCE} figures are of another file; run tools/presence.py again")
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
    table = _short_table(figures["evaluation"]) + "\n\n" + _models_table(models, options.figures)
    write_atomic(options.readme, f"{before}{_MARKERS[0]}\n{table}\n{_MARKERS[1]}{after}".encode())
    print(options.weights.with_suffix(".md"))


_MARKERS = ("<!-- figures: written by tools/model_card.py -->", "<!-- end of figures -->")


def _models_table(models: list[Path], folder: Path) -> str:
    """All shipped models beside each other."""
    lines = [
        "| model | file | crop | one thread | PCK@0.2 | without neck and head top | mean error | NLL | |",
        "|---" * 9 + "|",
    ]
    for path in models:
        report, speed = (_read(folder / f"{path.stem}-{kind}.json") for kind in ("evaluation", "benchmark"))
        size = PoseModel(path, threads=1).metadata.input_size
        default = "the default" if path.stem.endswith("-small") else ""
        lines.append(
            f"| [{path.stem}](weights/{path.stem}.md) | {path.stat().st_size / 1e6:.1f} MB | {size} px "
            f"| {speed['crop_ms']:.1f} ms | {report['pck']['mean']:.3f} | {_limbs_alone(report):.3f} "
            f"| {report['mean_error']['pixels']:.2f} px | {report['laws']['model']['nll']['pixels']:.2f} | {default} |"
        )
    note = "PCK of the torso; mean error and NLL per person in picture pixels, which compare models of different crops."
    return "\n".join([*lines, "", note])


def _limbs_alone(report: dict[str, Any]) -> float:
    """PCK over the joints without neck and head top, which are easy."""
    shares = {name: share for name, share in report["pck"]["per_joint"].items() if name not in ("neck", "head_top")}
    counts = {name: report["joints"][name]["labelled"] for name in shares}
    return sum(shares[name] * counts[name] for name in shares) / sum(counts.values())


def _short_table(report: dict[str, Any]) -> str:
    """The figures that a newcomer asks for."""
    laws = report["laws"]
    rows = [
        ("NLL, nats per person (crop pixels)", lambda f: f"{f['nll']['frame']:.2f}"),
        ("error of a joint when the others are known (TAC)", lambda f: f"{f['tac']['pixels']:.2f} px"),
        (
            "rank correlation of expected and found error, within joints",
            lambda f: f"{f['rank_correlation']['person_sizes']:.2f}",
        ),
        (
            "mean error left without the least certain 20 % of joints",
            lambda f: f"{100 * f['risk_coverage']['left_at_80']:.0f} %",
        ),
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
        "\n".join(lines) + "\n\nThe rivals have the same means and their own law: "
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
    speed, facts = figures["benchmark"], metadata.description
    steps, backbone = _steps(facts["recipe"])
    several = bool(metadata.exchanges)
    return _CARD.format(
        name=weights.stem,
        steps=", then ".join(f"`configs/{step}.yaml`" for step in steps),
        train_lines="\n".join(f"    python tools/train.py configs/{step}.yaml" for step in steps),
        backbone=backbone,
        adapted_epochs=facts["adapted_epochs"],
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
        pck12=_limbs_alone(figures["evaluation"]),
        elsewhere=_elsewhere(figures["coco"]),
        presence_line=_PRESENCE_LINE.format(name=weights.stem) if PRESENCE in figures else "",
        presence=_presence(figures[PRESENCE]) if PRESENCE in figures else "",
        speed=(
            f"One crop in the network {speed['crop_ms']:.1f} ms, one box of a 640 x 480 picture {speed['box_ms']:.1f} ms "
            f"({speed['threads']} thread); `from posecov import PoseEstimator` {speed['import_s']:.2f} s."
        ),
    )


_EPOCHS = {"mean_epochs": "mean", "wasserstein_epochs": "wasserstein", "nll_epochs": "nll"}


def _steps(recipe: str) -> tuple[list[str], str]:
    """Recipes that lead to this one, each of which starts from the one before, and the backbone of the last."""
    steps: list[str] = []
    backbone, current = "", recipe
    while current:
        try:
            fields = yaml.safe_load(Path(f"configs/{current}.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            raise PosecovError(f"configs/{current}.yaml: cannot read the recipe of this model") from None
        steps.insert(0, current)
        backbone = backbone or fields.get("model", {}).get("backbone", "tf_efficientnet_lite0")
        current = Path(fields.get("start_from", "")).parent.name.removeprefix("posecov-")
    return steps, backbone


def _elsewhere(report: dict[str, Any]) -> str:
    """What is left of the figures on people of another data set."""
    law, size = report["laws"]["model"], report["mean_error"]["person_sizes"]
    joints = ", ".join(name for name, facts in report["joints"].items() if facts["labelled"])
    names = report["dataset"].replace(" and ", " ")
    ranks = law["rank_correlation"]["person_sizes"]
    together, alone = (_percents(law["coverage"][key]) for key in ("joint", "per_joint"))
    return (
        f"{report['people']} people of {report['dataset']}, everyday pictures, with {report['labelled_joints']} labels of "
        f"{joints}\n(`tools/evaluate.py --dataset {names}`): PCK@0.2 {report['pck']['mean']:.3f}, mean error "
        f"{100 * size:.1f} % of the person's size;\npeople inside their 50 / 68 / 90 / 95 % region {together}, "
        f"joints {alone};\n"
        f"rank correlation of expected and found error {ranks:.2f}. The model was trained and calibrated on sports people,\n"
        "whole and in motion; these are often cut off or hidden."
    )


_PRESENCE_LINE = """    python tools/presence.py weights/{name}.onnx --data-root DIR --out weights/{name}.onnx \\
        --json weights/figures/{name}-presence.json
"""


def _presence(report: dict[str, Any]) -> str:
    """How well it tells whether somebody is there."""
    area, loss, pictures, places = (report[key] for key in ("area_under_roc", "log_loss_of_the_best", "pictures", "candidates"))
    rows = [
        f"| {row['from']:g} to {row['to']:g} | {row['pictures']} | {row['probability']:.2f} | {row['share']:.2f} |"
        for row in report["reliability"]["together"]
    ]
    table = "\n".join(
        ["| probability of the best place | pictures | on average | with a person there |", "|---" * 4 + "|", *rows]
    )
    return f"""### Whether somebody is there

The output `presence` was learned afterwards, all else frozen, also on 50 pictures of COCO 2017 (train), half of them without
people. Of held-out pictures, each judged by a judge that had seen neither its people nor its scene, {pictures["with_a_person"]}
with one person and {pictures["without"]} without: area under the ROC over {places["right"]} right and {places["wrong"]} wrong
places where the search ended up, {area["presence"]:.3f} (consistency under shifted crops, {area["consistency"]:.3f}, both
together, as the search has it, {area["together"]:.3f}); log loss of a picture's best place, either kind of picture half of all,
{loss["presence"]:.3f} (consistency {loss["consistency"]:.3f}, together {loss["together"]:.3f}).

{table}

"""


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
