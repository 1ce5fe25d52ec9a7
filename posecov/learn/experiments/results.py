"""The results page: our experiments beside the papers', and where they differ.

Every sentence about a result is chosen by the numbers in the experiments' CSV files; what was not run is said to be missing.
"""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import tyro

from posecov.errors import PosecovError
from posecov.files import reason, write_atomic
from posecov.learn.experiments import published
from posecov.learn.experiments.cells import made, markdown_table, number, read_csv
from posecov.learn.experiments.dimension_costs import exponent

Rows = Sequence[Mapping[str, str]]
_LARGEST = 300_000
_COMPARED = {"kl": "KL from the truth", "wasserstein": "2-W distance to the truth", "mean_error": "error of the mean"}
TITLES: Mapping[str, str] = {
    "locking": "Locking: a wrong mean turns the covariance",
    "univariate": "Univariate: three fast sinusoids",
    "dimensions": "Dimensions: error and cost from D = 4 to 32",
    "uci": "UCI tables",
    "pose": "Human pose, held out",
}
# Further runs of the same experiment: folder -> title, and what its command adds.
FURTHER: Mapping[str, tuple[str, str, str]] = {
    "pose-few": (
        "pose",
        "With 600 people",
        "--people 600 --phase1-epochs 20 --phase2-epochs 20 --out runs/experiments/pose-few",
    ),
    "pose-mean": ("pose", "With a mean head that learns", "--mean-head fresh --out runs/experiments/pose-mean"),
}


@dataclass(frozen=True)
class ResultsOptions:
    """Write the results page from what the experiments left.

    Attributes:
        source: folder with a folder per experiment.
        out: the page; its figures go into ``figures`` beside it.
        quick: read the folders that --quick wrote (NAME-quick).
    """

    source: Annotated[str, tyro.conf.arg(name="from")] = "runs/experiments"
    out: str = "tools/experiments/README.md"
    quick: bool = False


def write_page(options: ResultsOptions) -> str:
    """Write the page and copy its figures. Returns one line per experiment: found or missing.

    Raises:
        PosecovError: there is nothing at all, or the page cannot be written.
    """
    source, page = Path(options.source), Path(options.out)
    folders = {name: source / (f"{name}-quick" if options.quick else name) for name in TITLES}
    there = {name: (folder / f"{name}.md").is_file() for name, folder in folders.items()}
    if not any(there.values()):
        raise PosecovError(f"{source}: no experiment has been run there; run tools/experiments/locking.py, or give --from")
    parts = [_head(options.quick)]
    for name, title in TITLES.items():
        parts.append(f"## {title}\n\n    python tools/experiments/{name}.py{' --quick' if options.quick else ''}\n")
        parts.append(_section(name, folders[name], page.parent) if there[name] else "Missing: it has not been run.\n")
        parts += [_further(name, source, page.parent) if not options.quick else ""]
    made(page.parent)
    write_atomic(page, "\n".join(parts).encode())
    return "".join(f"{name}: {'found' if found else 'missing'}\n" for name, found in there.items())


def _head(quick: bool) -> str:
    text = (
        "# Experiments of the papers\n\nWritten by `python tools/experiments/results.py` from what the commands below left in "
        "runs/experiments; do not edit it. ToSS is [arXiv 2502.10587](https://arxiv.org/abs/2502.10587), TIC-TAC "
        "[arXiv 2310.18953](https://arxiv.org/abs/2310.18953). Spreads are standard deviations over seeds. All commands take "
        "`--quick`, `--seeds`, `--out` and `--threads`, go on where they were stopped, and write CSV, PNG and Markdown.\n"
    )
    return text + ("\n**Quick runs: they show that all works, not the figures.**\n" if quick else "")


def _section(name: str, folder: Path, beside: Path) -> str:
    """What the numbers say, the figures, the experiment's own tables."""
    tell: Mapping[str, Callable[[Rows], str]] = {
        "locking": locking, "univariate": univariate, "dimensions": dimensions, "pose": pose,
    }  # fmt: skip
    own = _read(folder / f"{name}.md")
    said = ""
    if name in tell:
        table = folder / f"{name}.csv"
        try:
            said = (
                tell[name](read_csv(table)) + "\n" if table.is_file() else "Its CSV is missing: nothing is said about it.\n\n"
            )
        except (KeyError, ValueError) as error:
            raise PosecovError(f"{table}: not what tools/experiments/{name}.py writes ({error}); run it again") from None
    shown = "".join(f"![{title}](figures/{copied})\n\n" for title, copied in _figures(name, folder, beside))
    return said + shown + _demoted(own)


def _further(name: str, source: Path, beside: Path) -> str:
    """Sections of the further runs of an experiment that are there."""
    text = ""
    for folder, (experiment, title, arguments) in FURTHER.items():
        if experiment == name and (source / folder / f"{name}.md").is_file():
            text += f"### {title}\n\n    python tools/experiments/{name}.py {arguments}\n\n"
            text += _demoted(_read(source / folder / f"{name}.md")) + "\n"
    return text


def _figures(name: str, folder: Path, beside: Path) -> list[tuple[str, str]]:
    """Copy NAME.png, then NAME-*.png, small enough for git; title and file name of each."""
    found = [path for path in (folder / f"{name}.png", *sorted(folder.glob(f"{name}-*.png"))) if path.is_file()]
    copied = []
    for path in found:
        write_atomic(made(beside / "figures") / path.name, _small(path))
        copied.append((path.stem.replace("-", ", "), path.name))
    return copied


def _small(path: Path) -> bytes:
    """The picture's bytes, scaled down until they are few enough."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PosecovError(f"{path}: cannot be read ({reason(error)})") from None
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise PosecovError(f"{path}: not a picture; remove it and run the experiment again")
    while len(content) > _LARGEST:
        image = cv2.resize(image, None, fx=0.85, fy=0.85, interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    return content


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PosecovError(f"{path}: cannot be read ({reason(error)})") from None


def _demoted(markdown: str) -> str:
    """Verbatim, but headings start at the third level, below the page's own. Fenced blocks stay as they are."""
    lines, fenced = markdown.rstrip().splitlines(), False
    headings: dict[int, int] = {}
    for i, line in enumerate(lines):
        fenced ^= line.startswith("```")
        found = None if fenced else re.match(r"(#{1,6}) ", line)
        if found:
            headings[i] = len(found.group(1))
    shift = max(3 - min(headings.values(), default=3), 0)
    for i, level in headings.items():
        lines[i] = "#" * min(shift, 6 - level) + lines[i]
    return "\n".join(lines) + "\n"


def values(rows: Rows, column: str, **wanted: str) -> list[float]:
    """Finite numbers of a column, from rows where other columns have the values wanted."""
    chosen = [row.get(column) or "" for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return [float(text) for text in chosen if text and text not in ("nan", "inf")]


def _mean(numbers: Sequence[float]) -> float | None:
    return statistics.fmean(numbers) if numbers else None


def locking(rows: Rows) -> str:
    """Whether NLL and KL lock and the bound does not, in the runs of the film strip."""
    settings = {"optimizer": "sgd", "warmup": "0", "rate": "0.03"}
    text = (
        "In the paper NLL and KL turn the covariance along the residual, which slows the mean; the 2-Wasserstein bound does "
        "not.\n\n"
    )
    for truth in ("tilted", "orthogonal"):
        angle = {m: _mean(values(rows, "smallest_angle", loss=m, truth=truth, **settings)) for m in ("nll", "kl")}
        wanted = {"loss": "nll", "truth": truth, **settings}
        seeds = sum(all(row[key] == value for key, value in wanted.items()) for row in rows)
        arrived = {m: values(rows, "arrival", loss=m, truth=truth, **settings) for m in ("nll", "kl", "wasserstein-bound")}
        bound = _mean(arrived["wasserstein-bound"])
        if bound is None or any(value is None for value in angle.values()):
            text += f"- {truth} truth: the runs needed to say so are not there.\n"
            continue
        for m in ("nll", "kl"):
            locked = (angle[m] or 0.0) < 5 and (len(arrived[m]) < seeds or statistics.fmean(arrived[m]) > 2 * bound)
            arrival = f"arrives after {number(_mean(arrived[m]), 0)} steps" if arrived[m] else "never arrives"
            some = f" ({len(arrived[m])} of {seeds} seeds)" if 0 < len(arrived[m]) < seeds else ""
            text += (
                f"- {truth} truth, {m.upper()}: {'as in the paper' if locked else 'NOT as in the paper'}: main axis to within "
                f"{number(angle[m], 1)} degrees of the residual; the mean {arrival}{some}, with the bound after "
                f"{number(bound, 0)}.\n"
            )
    for m in ("nll", "kl", "wasserstein", "wasserstein-bound"):
        runs = [row for row in rows if row["loss"] == m and row["warmup"] != "0"]
        failed = sum(row["diverged"] == "1" for row in runs)
        if runs:
            text += f"- with warm-up of the mean, {m}: {failed} of {len(runs)} runs diverged.\n"
    return text


def univariate(rows: Rows) -> str:
    """Whether the bound finds sigma where NLL does not, and what the hybrid adds."""
    text, functions = "", list(dict.fromkeys(row["function"] for row in rows))
    for function in functions:
        error = {m: _mean(values(rows, "sigma_error", function=function, method=m)) for m in _methods(rows)}
        nll = {m: _mean(values(rows, "nll", function=function, method=m)) for m in _methods(rows)}
        known = {m: e for m, e in error.items() if e is not None}
        likely = {m: n for m, n in nll.items() if n is not None}
        if not known or not likely:
            text += f"- {function}: no finite result.\n"
            continue
        best, likeliest = min(known, key=known.__getitem__), min(likely, key=likely.__getitem__)
        text += (
            f"- {function}: sigma is found best by {best} (error {number(known[best])}; NLL {number(error.get('NLL'))}, "
            f"2-W bound {number(error.get('2-W bound'))}); the best held-out NLL is that of {likeliest} "
            f"({number(likely[likeliest])}).\n"
        )
        better = _less(error.get("2-W bound"), error.get("NLL"))
        if better is not None:
            closer = "closer to" if better else "NOT closer to"
            text += f"  The bound's sigma is {closer} the truth than NLL's, the paper's claim.\n"
        plain, clipped, bound = (error.get(m) for m in ("NLL", "NLL, clipped", "2-W bound"))
        if plain is not None and clipped is not None and bound is not None and clipped < plain:
            # How much of the gap is not the loss but its first gradients.
            text += f"  Clipping NLL's gradient alone brings its error from {number(plain)} to {number(clipped)}"
            text += f", still above the bound's {number(bound)}.\n" if clipped > bound else ", below the bound's.\n"
    return text


def _methods(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _less(first: float | None, second: float | None) -> bool | None:
    return None if first is None or second is None else first < second


def dimensions(rows: Rows) -> str:
    """How often the bound and the hybrid are nearer to the truth than NLL, and the cost table beside the published one."""
    fits = [row for row in rows if row["kind"] == "fit"]
    sizes = sorted({int(row["D"]) for row in fits})
    text = ""
    for method in ("2-W bound", "hybrid", "hybrid, finetuned"):
        for column, name in _COMPARED.items():
            won = [
                d for d in sizes
                if _less(*(_mean(values(fits, column, method=m, D=str(d))) for m in (method, "NLL")))
            ]  # fmt: skip
            text += f"- {method} has a lower {name} than NLL at {len(won)} of {len(sizes)} D"
            text += ".\n" if len(won) in (0, len(sizes)) else f": {', '.join(map(str, won))}.\n"
    return text + "\n" + _cost_table([row for row in rows if row["kind"] == "cost"])


def _cost_table(costs: Rows) -> str:
    sizes = sorted({int(row["D"]) for row in costs})
    ours = {"NLL": "NLL", "2-W bound": "2-W bound", "2-W": "2-W"}
    ours |= {f"NLL:TIC, {kind}": f"NLL:TIC, {kind}" for kind in ("naive autograd", "exact", "estimated")}
    text, header = "", ["", *(f"D = {d}" for d in sizes), "exponent"]
    for unit, column, theirs in (("ms", "ms", published.STEP_MILLISECONDS), ("MB", "mb", published.STEP_MEGABYTES)):
        table = []
        for method, printed in theirs.items():
            known = dict(zip(published.DIMENSIONS, printed, strict=True))
            taken = [known.get(d) for d in sizes]
            table.append([f"{method}, published", *(number(v, 1) for v in taken), number(exponent(sizes, taken))])
        for method in ours:
            taken = [_mean(values(costs, column, method=method, D=str(d))) for d in sizes]
            table.append([f"{method}, ours", *(number(v, 1) for v in taken), number(exponent(sizes, taken))])
        text += f"A training step, {unit}:\n\n" + markdown_table(table, header) + "\n"
    last = sizes[-1] if sizes else 0
    bound = _mean(values(costs, "ms", method="2-W bound", D=str(last)))
    plain = _mean(values(costs, "ms", method="NLL", D=str(last)))
    if bound is None or plain is None:
        return text
    place = published.DIMENSIONS.index(last) if last in published.DIMENSIONS else None
    if place is not None:
        paper = published.STEP_MILLISECONDS["NLL:TIC"][place] / published.STEP_MILLISECONDS["2-W bound"][place]
        text += f"TIC over the bound at D = {last}: published {paper:.0f}; ours "
    else:
        text += f"TIC over the bound at D = {last}: ours "
    found = {kind: _mean(values(costs, "ms", method=f"NLL:TIC, {kind}", D=str(last))) for kind in ("exact", "estimated")}
    said = [f"{ms / bound:.1f} {kind} ({ms / plain:.1f} x plain NLL)" for kind, ms in found.items() if ms is not None]
    text += ", ".join(said) + ".\n"
    return text + _why(costs, sizes)


def _why(costs: Rows, sizes: Sequence[int]) -> str:
    """Why absolute times differ, where the numbers show it."""
    ours = exponent(sizes, [_mean(values(costs, "ms", method="2-W bound", D=str(d))) for d in sizes])
    theirs = exponent(published.DIMENSIONS, published.STEP_MILLISECONDS["2-W bound"])
    if ours is None or theirs is None or ours < 2 * theirs:
        return ""
    return (
        f"Absolute times do not compare: the published step of the bound grows with D^{theirs:.1f} though the networks' "
        f"weights grow with D^4, so fixed costs fill it; ours, on one CPU thread, grows with D^{ours:.1f}. Hence a ratio to it "
        "flatters ours at large D and theirs at small D; the multiple of plain NLL in one run is the figure to go by.\n"
    )


def pose(rows: Rows) -> str:
    """The papers' numbers, and whether their order of the methods holds here; ours are in the experiment's own table, below."""
    table = [
        [f"ToSS, learning rate {rate}, {method}", *(number(v, 1) for v in figures[:2]), number(figures[2])] if figures else
        [f"ToSS, learning rate {rate}, {method}", "-", "-", "-"]
        for rate, methods in published.POSE_CURVES.items()
        for method, figures in methods.items()
    ]  # fmt: skip
    table += [[f"TIC-TAC, {m}", "-", number(-value, 1), number(tac)] for m, (tac, value) in published.POSE_TIC_TAC.items()]
    text = (
        "The papers' numbers do not compare with ours: theirs are of ViTPose in 64 x 64 heatmap pixels, on the images that it "
        "was trained on (ToSS: epoch 45, read off curves). What compares is the order of the methods.\n\n"
        + markdown_table(table, ["published", "MSE", "NLL", "TAC"])
        + "\n"
    )
    text += "Means over seeds; the paired intervals below say what is more than luck.\n\n" if rows else ""
    for first, second in (("NLL-TIC", "NLL"), ("NLL-TIC", "Faithful"), ("hybrid", "NLL-TIC"), ("smoothed hybrid", "NLL-TIC")):
        found = {what: [_mean(values(rows, what, variant=name)) for name in (first, second)] for what in ("nll", "tac")}
        apart = {what: pair[0] - pair[1] for what, pair in found.items() if None not in pair}  # type: ignore[operator]
        if len(apart) == 2:
            better = all(difference < 0 for difference in apart.values())
            text += (
                f"- {first} against {second}: NLL {apart['nll']:+.2f} nats, TAC {apart['tac']:+.2f} px: "
                f"{'lower in both' if better else 'NOT lower in both'}, where the papers' "
                f"{'hybrid' if 'hybrid' in first else first} is.\n"
            )
    return text
