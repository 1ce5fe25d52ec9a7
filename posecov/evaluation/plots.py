"""Plots of a report as SVG, each a function of the figures alone. They need matplotlib."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from posecov import metrics
from posecov.evaluation.tables import TITLES, labelled_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people tell apart; dashes and markers say it once more.
STYLES: dict[str, dict[str, Any]] = {
    "model": {"color": "#0072B2", "linestyle": "-", "marker": "o", "linewidth": 2.2, "zorder": 4},
    "constant_covariance": {"color": "#E69F00", "linestyle": "--", "marker": "s", "linewidth": 1.6, "zorder": 3},
    "constant_correlation": {"color": "#009E73", "linestyle": ":", "marker": "^", "linewidth": 1.8, "zorder": 3},
    "average_weights": {"color": "#CC79A7", "linestyle": "-.", "marker": "D", "linewidth": 1.6, "zorder": 3},
    "mixture_constant_correlation": {
        "color": "#D55E00",
        "linestyle": (0, (1, 1)),
        "marker": "v",
        "linewidth": 1.6,
        "zorder": 3,
    },
}
_GREY, _BAND = "#666666", "#d9dde3"
_RC: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "legend.frameon": False,
    "svg.hashsalt": "posecov",
}


def plots(report: dict[str, Any]) -> dict[str, tuple[str, bytes]]:
    """Every plot that the figures allow: name to what it shows, and the SVG."""
    makers: dict[str, tuple[str, Callable[[dict[str, Any]], Figure]]] = {
        "reliability": (
            "Share of people, joints and limbs inside their central regions against what was promised",
            _reliability,
        ),
        "joints": ("Coverage of each joint minus what was promised", _joint_coverage),
        "thirds": ("Coverage of the surest, middle and least sure third of the joints", _thirds),
        "risk": ("Error left when the least certain joints are dropped, and error found for each predicted sigma", _risk),
    }
    if labelled_names(report, "limbs", report["limbs"]):
        makers["limbs"] = ("Coverage of each limb vector minus what was promised", _limb_coverage)
    if report.get("confusion"):
        makers["confusion"] = ("How often left and right are exchanged against how often that was predicted", _confusion)
    import matplotlib

    with matplotlib.rc_context(_RC):
        return {name: (title, _svg(make(report))) for name, (title, make) in makers.items()}


def _reliability(report: dict[str, Any]) -> "Figure":
    """Observed against nominal: all joints together, single joints, limb vectors."""
    panels = [("joint", "all joints of a person together"), ("of_joints", "single joints")]
    panels += [("of_limbs", "limb vectors")] if labelled_names(report, "limbs", report["limbs"]) else []
    counts = {"joint": report["people"], "of_joints": _typical(report["joints"]), "of_limbs": _typical(report["limbs"])}
    figure, row = _figure(1, len(panels), 3.9 * len(panels), 4.3)
    for axes, (key, title) in zip(row, panels, strict=True):
        nominal = np.array(report["laws"]["model"]["reliability"]["nominal"])
        _band(axes, nominal, counts[key])
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
        for name, figures in report["laws"].items():
            observed = _floats(figures["reliability"][key])
            if observed.ndim == 2:
                if name == "model":
                    axes.plot(nominal, observed.T, color=STYLES[name]["color"], linewidth=0.7, alpha=0.45)
                observed = _mean_over_rows(observed)
            axes.plot(nominal, observed, markersize=3.5, label=TITLES[name], **STYLES[name])
        axes.set(title=title, xlabel="mass of the region", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        _percents(axes.xaxis)
        _percents(axes.yaxis)
    row[0].set_ylabel("share found inside")
    _legend(figure, row[0], report)
    return figure


def _joint_coverage(report: dict[str, Any]) -> "Figure":
    return _coverage_by_row(report, report["joints"], "coverage_of_joints")


def _limb_coverage(report: dict[str, Any]) -> "Figure":
    return _coverage_by_row(report, report["limbs"], "coverage_of_limbs")


def _coverage_by_row(report: dict[str, Any], facts: dict[str, Any], key: str) -> "Figure":
    """One panel a mass, one line for each joint or limb: observed minus nominal in points, with its binomial band."""
    masses, names = list(report["coverage_band"]), [name for name, one in facts.items() if one["labelled"]]
    figure, row = _figure(1, len(masses), 11.7, 1.2 + 0.27 * len(names), sharey=True)
    places = np.arange(len(names))
    offsets = dict(zip(report["laws"], (0.0, -0.25, 0.25, -0.12, 0.12), strict=False))
    for axes, mass in zip(row, masses, strict=True):
        nominal = float(mass)
        for place, name in zip(places, names, strict=True):
            band = facts[name]["coverage_band"][mass]
            if band is not None:
                low, high = (100 * edge - nominal for edge in band)
                axes.barh(place, high - low, left=low, height=0.8, color=_BAND, zorder=1)
        for law, figures in report["laws"].items():
            found = 100 * _floats([figures[key][name][mass] for name in names]) - nominal
            style = STYLES[law]
            size = 5.5 if law == "model" else 3.8
            axes.plot(
                found, places + offsets[law], style["marker"], color=style["color"], markersize=size, zorder=style["zorder"]
            )
        axes.axvline(0, color=_GREY, linewidth=1, zorder=2)
        axes.set(title=f"at {mass} %", yticks=places, yticklabels=names)
        axes.grid(axis="y", visible=False)
        reach = max(abs(edge) for edge in axes.get_xlim())
        axes.set_xlim(-reach, reach)
    row[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel("covered minus promised, percentage points", fontsize=10)
    _legend(figure, row[0], report, lines=False)
    return figure


def _thirds(report: dict[str, Any]) -> "Figure":
    """Observed minus nominal in points for each third of predicted sigma."""
    masses = list(report["coverage_band"])
    figure, row = _figure(1, len(masses), 11.7, 3.3, sharey=True)
    thirds = ["surest", "middle", "least sure"]
    for axes, mass in zip(row, masses, strict=True):
        nominal = float(mass)
        low, high = metrics.binomial_band(max(1, report["people"] // 3), nominal / 100)
        axes.axhspan(100 * low - nominal, 100 * high - nominal, color=_BAND, zorder=1)
        axes.axhline(0, color=_GREY, linewidth=1, zorder=2)
        for law, figures in report["laws"].items():
            found = 100 * _floats(figures["coverage"]["by_sigma_thirds"][mass]) - nominal
            axes.plot(thirds, found, markersize=6 if law == "model" else 4.5, **STYLES[law])
        axes.set_title(f"at {mass} %")
        axes.margins(x=0.18)
        axes.grid(axis="x", visible=False)
    row[0].set_ylabel("covered minus promised, points")
    _legend(figure, row[0], report)
    return figure


def _risk(report: dict[str, Any]) -> "Figure":
    """The risk-coverage curve, and found error against predicted sigma."""
    figure, (left, right) = _figure(1, 2, 11.7, 4.3)
    for law, figures in report["laws"].items():
        risk = figures["risk_coverage"]
        left.plot(risk["kept"], risk["risk"], markersize=3.5, label=TITLES[law], **STYLES[law])
    perfect = report["laws"]["model"]["risk_coverage"]
    left.plot(perfect["kept"], perfect["perfect"], color=_GREY, linewidth=1, label="sorted by the errors themselves")
    left.axvline(0.8, color=_GREY, linewidth=1, linestyle=(0, (2, 3)))
    left.set(
        xlim=(0, 1), ylim=(0, None), xlabel="share of joints kept, the surest first", ylabel="mean error, of all joints' mean"
    )
    left.set_title("error left when the least certain joints are dropped")
    _percents(left.xaxis)
    _percents(left.yaxis)
    ends = []
    for law, figures in report["laws"].items():
        sigma, error = (100 * _floats(figures["sigma_bins"][key]) for key in ("sigma", "error"))
        right.plot(sigma, error, markersize=5, **STYLES[law])
        ends += [*sigma, *error]
    low, high = min(ends) * 0.85, max(ends) * 1.15
    right.plot([low, high], [low, high], color=_GREY, linewidth=1)
    right.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    right.set(xlabel="sigma predicted, % of the person's size", ylabel="error found per axis, root mean square, %")
    right.set_title("tenths of the joints, from the surest to the least sure")
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < tick < high]
    for axis in (right.xaxis, right.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    _legend(figure, left, report, band=False)
    return figure


def _confusion(report: dict[str, Any]) -> "Figure":
    """The responsibility of an exchange against its predicted probability, in bins of people."""
    bins = report["confusion"]["bins"]
    predicted, found, error = (_floats([row[key] for row in bins]) for key in ("predicted", "found", "standard_error"))
    figure, (axes,) = _figure(1, 1, 4.6, 4.3)
    style = STYLES["model"]
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    axes.errorbar(predicted, found, yerr=1.96 * error, color=style["color"], marker="o", markersize=5, linewidth=1.6)
    reach = 1.1 * max(0.05, *predicted, *(found + 1.96 * error))
    axes.set(xlim=(0, min(1, reach)), ylim=(0, min(1, reach)), aspect="equal")
    axes.set(xlabel="probability of an exchange, predicted", ylabel="found, mean responsibility")
    _percents(axes.xaxis)
    _percents(axes.yaxis)
    return figure


def _figure(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple["Figure", Sequence["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.ravel(figure.subplots(rows, columns, **options)).tolist()


def _legend(figure: "Figure", axes: "Axes", report: dict[str, Any], *, lines: bool = True, band: bool = True) -> None:
    """One legend above all panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for law in report["laws"]:
        style = {**STYLES[law], **({} if lines else {"linestyle": "none"})}
        handles.append(Line2D([], [], markersize=5, label=TITLES[law], **style))
    if band:
        handles.append(Patch(color=_BAND, label="where a calibrated law lies, 19 times of 20"))
    known = {handle.get_label() for handle in handles}
    handles += [h for h, label in zip(*axes.get_legend_handles_labels(), strict=True) if label not in known]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4), fontsize=9.5, handlelength=2.4)


def _band(axes: "Axes", nominal: np.ndarray, count: int) -> None:
    """The binomial band of ``count`` people around the diagonal."""
    if count:
        edges = np.array([metrics.binomial_band(count, level) for level in nominal])
        axes.fill_between(nominal, edges[:, 0], edges[:, 1], color=_BAND, linewidth=0)


def _typical(facts: dict[str, dict[str, Any]]) -> int:
    """How many people the typical joint or limb has."""
    counts = [one["labelled"] for one in facts.values() if one["labelled"]]
    return int(np.median(counts)) if counts else 0


def _mean_over_rows(values: np.ndarray) -> np.ndarray:
    kept = values[~np.isnan(values).all(axis=1)]
    return kept.mean(axis=0) if len(kept) else np.full(values.shape[1], np.nan)


def _floats(values: Any) -> np.ndarray:
    """Numbers of a report, None as NaN."""
    return np.array(values, dtype=np.float64)


def _percents(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(PercentFormatter(1.0))


def _svg(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
