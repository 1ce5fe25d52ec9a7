"""What a report says: headings, sentences, tables, plots and overlays, before they become a page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2

from posecov.evaluation import tables
from posecov.evaluation.pictures import Shown
from posecov.evaluation.plots import plots
from posecov.evaluation.tables import Table, number, percent_of, shares


@dataclass(frozen=True)
class Picture:
    """A plot or overlay: its path under the report's folder, the file, and words for who cannot see it."""

    path: str
    content: bytes
    words: str


@dataclass(frozen=True)
class Gallery:
    """Overlays with a caption each."""

    pictures: Sequence[tuple[Picture, str]]


Block: TypeAlias = str | Table | Picture | Gallery


def sections(
    report: dict[str, Any], source: Mapping[str, Any], worst: Sequence[Shown], uncertain: Sequence[Shown]
) -> list[tuple[str, list[Block]]]:
    """Headings and what stands under them."""
    drawn = {name: Picture(f"plots/{name}.svg", svg, words) for name, (words, svg) in plots(report).items()}
    star = "A star: outside of where a calibrated law lies 19 times of 20, for that many labels."
    found: list[tuple[str, list[Block]]] = [
        ("In short", _summary(report)),
        ("Uncertainty, beside its rivals", [*_rival_words(report), tables.law_table(report), *tables.remarks(report)]),
        ("Does it keep what it promises?", [_RELIABILITY, drawn["reliability"]]),
        ("Joint by joint", [drawn["joints"], tables.calibration_table(report), star]),
        ("Where it is sure, and where it is not", [_THIRDS, drawn["thirds"], tables.thirds_table(report)]),
    ]
    if "limbs" in drawn:
        found.append(("Limb vectors", [_LIMBS, drawn["limbs"], tables.limb_table(report), star]))
    if report.get("confusion"):
        shown: list[Block] = [tables.exchange_table(report), drawn["confusion"], tables.confusion_table(report)]
        found.append(("Left or right?", [_CONFUSION, *shown]))
    if report.get("conditioning"):
        found.append(("What one known joint tells about others", [_CONDITIONING, tables.conditioning_table(report)]))
    if report.get("clicks"):
        found.append(("What a correction is worth", [_CLICKS, tables.click_table(report), *tables.click_words(report)]))
    found.append(("What dropping the least certain joints gains", [_RISK, drawn["risk"]]))
    accuracy: list[Block] = [_pck_words(report), tables.joint_table(report)]
    if report.get("oks"):
        accuracy += [_oks_words(report["oks"]), tables.oks_table(report)]
    elif report.get("oks_missing"):
        accuracy.append(f"No OKS AP: {report['oks_missing']}.")
    found.append(("Keypoints", accuracy))
    for heading, folder, words, people in (
        ("Largest errors", "worst", "mean error", worst),
        ("Largest uncertainty", "uncertain", "mean sigma", uncertain),
    ):
        if people:
            found.append((heading, [_OVERLAYS.format(count=len(people), words=words), _gallery(people, folder)]))
    found.append(("How it was measured", [*_METHOD, *_source_lines(report, source)]))
    return found


_RIVALS = (
    "All laws share the model's keypoints; only the law around them differs. Constant covariance: one matrix for everybody, "
    "scaled by the person's size. Constant correlation: the model's own sigmas around one matrix for everybody. Both are "
    "fitted to others of these very people, which the model has not seen. Differences are model minus rival with paired 95 % "
    "bootstrap intervals over people; below 0 the model is better, but for the rank correlation."
)
_MIXTURES = (
    "The model's law is a mixture over exchanges of left and right; these two rivals are single Student-t's. Two more are "
    "mixtures: the model's own with its average weights for everybody, and its weights and sigmas around one matrix for "
    "everybody. They tell what the picture's own weights, and its own scatter, are worth."
)
_CONFUSION = (
    "The model says how likely it has taken one limb, or its part, for the other one. The responsibility of an exchange is its "
    "probability once the labels are known; among people with the same prediction it should average to that prediction."
)
_CONDITIONING = (
    "One joint is put where its label is, and the law moves the others. Their mean error before it, and after it for each law: "
    "the smaller, the more the law knows about what goes with what. A mixture answers with its likeliest component."
)
_CLICKS = (
    "Joints are put where their labels are, as somebody who corrects poses would, and the error of all the others is counted: "
    "for shoulders and hips together, for one joint at random, and for the one that each law itself expects to help most."
)
_RELIABILITY = (
    "A region of mass 90 % should hold the truth for 90 % of people. Above the diagonal regions are too wide, below it too "
    "narrow. Thin lines are the model's single joints and limbs, thick ones means over them."
)
_THIRDS = (
    "People sorted by predicted sigma within each joint, in person sizes, then joints pooled. A law can be right on average "
    "and too sure where it is least sure. The band is that of a third of the people, as if a person's joints erred "
    "together. The constant covariance has one sigma for everybody, so that its thirds say little."
)
_LIMBS = (
    "The vector from one joint of a limb to the other has a law of its own, which depends on their covariance: two joints may "
    "each be calibrated while the vector between them is not."
)
_RISK = (
    "Left: joints of all people in the order of their sigma, in person sizes; the fewer are kept, the smaller their mean error "
    "should be. Right: where sigma says 2 % of the person's size, errors of 2 % should be found."
)
_OVERLAYS = (
    "The {count} people with the largest {words}. Ellipses hold their joint with 95 % by the model's word; magenta crosses are "
    "the labels, tied to the keypoints that they belong to."
)
_METHOD = (
    "One person a box, boxes from labels. Joints without a label are marginalised: they count nowhere. Lengths in person sizes "
    "are divided by the longer side of the person's box.",
    "NLL: mean negative log density in nats per person. TAC: the error of a joint predicted from the true places of all other "
    "labelled joints. Energy score: E|X - y| - E|X - X'| / 2 over a person's labelled coordinates, from seeded draws. "
    "Sharpness: mean log standard deviation along the principal axes. Rank correlation: Spearman's, over people within each "
    "joint, averaged over joints.",
    "Area under the risk-coverage curve: mean over all shares kept of the mean error of the joints kept.",
)


def _summary(report: dict[str, Any]) -> list[Block]:
    """The figures that a reader asks for first."""
    model = report["laws"]["model"]
    table = Table(["", ""])
    rows = [
        ("people, labelled joints", f"{report['people']:,}, {report['labelled_joints']:,}"),
        (f"PCK@{report['pck']['threshold']} of the {report['pck']['unit']}", number(report["pck"]["mean"], 3)),
    ]
    if report.get("pckh"):
        rows += [(f"PCKh@{threshold}", number(report["pckh"][threshold]["mean"], 3)) for threshold in ("0.5", "0.1")]
    if report.get("oks"):
        rows.append(("OKS AP", number(report["oks"]["ap"], 3)))
    error = report["mean_error"]
    rows.append(("mean error", f"{number(error['pixels'], 1)} px, {percent_of(error['person_sizes'], 1)} % of the person"))
    nominal = " / ".join(report["coverage_band"])
    rows.append((f"people inside their {nominal} % region", f"{shares(model['coverage']['joint'])} %"))
    rows.append((f"joints inside their {nominal} % ellipse", f"{shares(model['coverage']['per_joint'])} %"))
    for name, figures in list(report["laws"].items())[1:]:
        gap = figures["difference"]["nll"]
        low, high = gap["interval"]
        rows.append((f"NLL against {tables.TITLES[name]}", f"{gap['value']:+.2f} nats ({low:+.2f} to {high:+.2f})"))
    rows.append(
        ("error left without the least certain 20 % of joints", f"{percent_of(model['risk_coverage']['left_at_80'], 1)} %")
    )
    table.rows = [list(row) for row in rows]
    blocks: list[Block] = [table]
    if report.get("rivals_missing"):
        blocks.append(f"No rivals: {report['rivals_missing']}.")
    return blocks


def _rival_words(report: dict[str, Any]) -> list[str]:
    if len(report["laws"]) == 1:
        return []
    return [_RIVALS, _MIXTURES] if "average_weights" in report["laws"] else [_RIVALS]


def _pck_words(report: dict[str, Any]) -> str:
    words = f"PCK: share of joints closer to their label than so much of the {report['pck']['unit']}"
    if report.get("pckh"):
        words += f", PCKh: than so much of the head's size, which {report['pckh']['people']:,} people have"
    return f"{words}."


def _oks_words(oks: dict[str, Any]) -> str:
    left_out = f" Without a COCO sigma, and left out: {', '.join(oks['without_sigma'])}." if oks["without_sigma"] else ""
    return (
        "COCO's average precision by pycocotools, boxes from labels, predictions sorted by the OKS that the law expects. "
        f"Areas of people: {oks['areas']}.{left_out}"
    )


def _source_lines(report: dict[str, Any], source: Mapping[str, Any]) -> list[str]:
    boot, energy = report["bootstrap"], report["laws"]["model"]["energy_score"]
    lines = [
        f"Model {source['model']}, file {source['weights']}, SHA-256 {source['sha256']}, data {source['dataset']}. "
        f"{boot['resamples']} bootstrap resamples, {energy['draws']} draws for the energy score (standard error "
        f"{number(energy['standard_error_of_draws'], 3)} px), seed {boot['seed']}, rivals across {report['folds']} folds."
    ]
    return lines + ([f"Written by `{source['command']}`"] if source.get("command") else [])


def _gallery(people: Sequence[Shown], folder: str) -> Gallery:
    pictures = []
    for rank, shown in enumerate(people, 1):
        _, encoded = cv2.imencode(".jpg", shown.image, [cv2.IMWRITE_JPEG_QUALITY, 88])
        caption = (
            f"{rank}. {shown.name}: error {percent_of(shown.error, 1)} %, sigma {percent_of(shown.sigma, 1)} % of the person; "
            f"{'farthest off' if folder == 'worst' else 'least sure'}: {shown.joint}"
        )
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", shown.name)
        pictures.append((Picture(f"pictures/{folder}-{rank:02d}-{stem}.jpg", encoded.tobytes(), caption), caption))
    return Gallery(pictures)


def pictures_of(blocks: Sequence[Block]) -> list[Picture]:
    found: list[Picture] = []
    for block in blocks:
        if isinstance(block, Picture):
            found.append(block)
        elif isinstance(block, Gallery):
            found += [picture for picture, _ in block.pictures]
    return found
