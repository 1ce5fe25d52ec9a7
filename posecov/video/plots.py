"""Plots of a film's results as PNG: expected errors over time, and which joints are wrong together. They need matplotlib."""

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecov.drawing.palette import LEFT, RIGHT, Colour
from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.pose import Pose
from posecov.skeleton import Skeleton, canonical_joint
from posecov.video.results import Header, read_results
from posecov.video.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 4
"""People in a plot: those who are there longest."""

FRAMES = 600
"""Frames in a plot, at most, evenly spaced."""

_GREY = "#5f6368"
_RC: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.grid": True,
    "grid.color": "#e8eaed",
    "legend.frameon": False,
}


@dataclass(eq=False)
class Course:
    """What is plotted of one person.

    Attributes:
        expected: (F, J) expected errors in pixels, NaN while the person is not there.
        measured: (F, J) the same of the poses as estimated.
        total: (J, J) sum of the correlations of joints (`joint_correlations`).
        least: of the least certain frame its index and correlations.
    """

    expected: np.ndarray
    measured: np.ndarray
    total: np.ndarray
    least: tuple[int, np.ndarray] | None = None

    @classmethod
    def empty(cls, frames: int, joints: int) -> "Course":
        """Of somebody who was in none of the frames yet."""
        return cls(np.full((frames, joints), np.nan), np.full((frames, joints), np.nan), np.zeros((joints, joints)))

    def add(self, index: int, pose: Pose, measured: Pose | None) -> None:
        """Take note of a frame."""
        among = joint_correlations(pose.covariance)
        self.expected[index] = pose.expected_error
        if measured is not None and measured is not pose:
            self.measured[index] = measured.expected_error
        self.total += among
        if self.least is None or self.expected[index].mean() > self.expected[self.least[0]].mean():
            self.least = index, among


def require_matplotlib() -> None:
    """Raises PosecovError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PosecovError('plots need matplotlib; run pip install -e ".[plots]"') from None


def joint_correlations(covariance: np.ndarray) -> np.ndarray:
    """How far joints are wrong in the same direction: tr S_jk / sqrt(tr S_jj tr S_kk), (J, J) in [-1, 1], for (2J, 2J)."""
    joints = len(covariance) // 2
    among = np.trace(np.asarray(covariance, dtype=np.float64).reshape(joints, 2, joints, 2), axis1=1, axis2=3)
    scale = np.sqrt(np.maximum(among.diagonal(), np.finfo(float).tiny))
    return among / (scale[:, None] * scale)


def write_errors(results: Path, target: Path, radius: float | None = None) -> None:
    """Expected error of every joint over time, left and right in one panel, a column a person; ``radius`` is of no use."""
    header, times, people = courses(results)
    _write(target, lambda: _errors(header, times, people))


def write_correlations(results: Path, target: Path, radius: float | None = None) -> None:
    """Correlations of joints, over all frames and in the least certain one, a row a person; ``radius`` is of no use."""
    header, times, people = courses(results)
    _write(target, lambda: _correlations(header, times, people))


PLOTS: Mapping[str, tuple[str, Table]] = {
    "errors": (".errors.png", write_errors),
    "correlations": (".correlations.png", write_correlations),
}
"""Ending and writer of each plot."""


def courses(results: Path) -> tuple[Header, np.ndarray, dict[int, Course]]:
    """The header, the times (F,) of frames evenly spaced, and what to plot of each person. Raises as `read_results`."""
    header, frames = read_results(results)
    times, present = [], Counter[int]()
    for result in frames:
        times.append(result.time)
        present.update(person.id for person in result.people)
    step = max(1, -(-len(times) // FRAMES))
    count, joints = len(times[::step]), len(header["skeleton"]["keypoints"])
    wanted = sorted(number for number, _ in present.most_common(MOST))
    people = {number: Course.empty(count, joints) for number in wanted}
    for result in read_results(results)[1]:
        if result.frame % step == 0:
            for person in (person for person in result.people if person.id in people):
                people[person.id].add(result.frame // step, person.pose, person.measured)
    return header, np.array(times[::step]), {number: course for number, course in people.items() if course.least is not None}


def _errors(header: Header, times: np.ndarray, people: Mapping[int, Course]) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    skeleton = Skeleton.from_dict(header["skeleton"])
    rows = _rows(skeleton)
    columns = max(1, len(people))
    size = (1.2 + max(7.0 / columns, 3.4) * columns, 1.0 + 1.05 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False)
    smoothed = header.get("smooth", "none") != "none"
    for column, (number, course) in enumerate(people.items()):
        for row, (name, joints) in enumerate(rows):
            axes = panels[row, column]
            for joint, colour in joints:
                axes.plot(times, course.measured[:, joint], color=colour, linewidth=0.8, alpha=0.4)
                axes.plot(times, course.expected[:, joint], color=colour, linewidth=1.7)
            if smoothed:
                unseen = np.isnan(course.measured[:, 0]) & ~np.isnan(course.expected[:, 0])
                axes.fill_between(times, 0, 1, where=unseen, transform=axes.get_xaxis_transform(), color="#dadce0", linewidth=0)
            axes.annotate(name, (0.008, 0.9), xycoords="axes fraction", va="top", color=_GREY, fontweight="bold")
        if len(people) > 1:
            panels[0, column].set_title(f"person {number}", fontsize=10)
    _scale(panels[0, 0], people)
    for axes in panels[-1]:
        axes.set_xlabel("seconds")
    figure.supylabel("expected error, pixels", fontsize=9)
    sides = {colour: name for _, joints in rows for _, colour in joints for name in [_side(colour)] if name}
    handles = [Line2D([], [], color=colour, linewidth=2.5, label=name) for colour, name in sides.items()]
    if smoothed:
        handles += [
            Line2D([], [], color=_GREY, linewidth=1.7, label=f"smoothed, {header['smooth']}"),
            Line2D([], [], color=_GREY, linewidth=0.8, alpha=0.5, label="as estimated in each frame"),
            Line2D([], [], color="#dadce0", linewidth=7, label="not seen"),
        ]
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=8.5, handlelength=1.8)
    return figure


def _correlations(header: Header, times: np.ndarray, people: Mapping[int, Course]) -> "Figure":
    from matplotlib.figure import Figure

    names = header["skeleton"]["keypoints"]
    side = 1.6 + 0.24 * len(names)
    figure = Figure(figsize=(2 * side + 1.2, max(1, len(people)) * (side + 0.3)), layout="constrained")
    panels = figure.subplots(max(1, len(people)), 2, squeeze=False)
    image = None
    shown = {number: _shown(course) for number, course in people.items()}
    reach = max([0.3, *(float(np.nanmax(np.abs(matrix))) for pair in shown.values() for matrix in pair)])
    for row, (number, course) in zip(panels, people.items(), strict=False):
        if course.least is None:
            continue
        index, _ = course.least
        who = f"person {number}, " if len(people) > 1 else ""
        titles = [f"{who}mean over the film", f"{who}least certain frame, {times[index]:.2f} s"]
        for axes, matrix, title in zip(row, shown[number], titles, strict=True):
            image = axes.imshow(matrix, vmin=-reach, vmax=reach, cmap="RdBu_r")
            axes.set_facecolor("#dadce0")
            axes.set_title(title, fontsize=10)
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(length=0)
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
    if image is None:
        panels[0, 0].annotate("nobody found", (0.5, 0.5), xycoords="axes fraction", ha="center", color=_GREY)
    else:
        bar = figure.colorbar(image, ax=panels, shrink=0.8 / len(people) ** 0.5, aspect=30)
        bar.set_label("correlation of errors: below 0 opposite, above 0 the same way", fontsize=9)
        bar.outline.set_visible(False)
    return figure


def _shown(course: Course) -> tuple[np.ndarray, np.ndarray]:
    """Mean correlations and those of the least certain frame, (J, J), without the diagonal, which says nothing."""
    if course.least is None:
        return course.total, course.total
    mean = course.total / np.isfinite(course.expected[:, 0]).sum()
    mine = np.where(np.eye(len(mean)) > 0, np.nan, 0.0)
    return mean + mine, course.least[1] + mine


def _rows(skeleton: Skeleton) -> list[tuple[str, list[tuple[int, str]]]]:
    """Panels from head to foot as pictures have them: a name, and the joints in it with their colours."""
    pairs = {skeleton.index(a): skeleton.index(b) for a, b in skeleton.flip_pairs}
    rows: list[tuple[str, list[tuple[int, str]]]] = []
    for joint, name in enumerate(skeleton.keypoints):
        side, _, plain = canonical_joint(name).partition("_")
        if joint in pairs:
            both = (joint, pairs[joint])
            rows.append((plain if side in ("l", "r") else name, [(k, _joint_colour(skeleton, k)) for k in both]))
        elif joint not in pairs.values():
            rows.append((name, [(joint, _GREY)]))
    return rows


def _joint_colour(skeleton: Skeleton, joint: int) -> str:
    return _ink(RIGHT if canonical_joint(skeleton.keypoints[joint]).startswith("r_") else LEFT)


def _ink(colour: Colour) -> str:
    """A colour of overlays, darker, as lines on white need it."""
    return "#" + "".join(f"{round(0.8 * part):02x}" for part in colour[::-1])


def _side(colour: str) -> str:
    return {_ink(RIGHT): "right", _ink(LEFT): "left"}.get(colour, "")


def _scale(axes: "Axes", people: Mapping[int, Course]) -> None:
    """Logarithmic, since a joint that is twice as sure matters as much anywhere."""
    ends = np.concatenate([np.array([10.0]), *(np.ravel([course.expected, course.measured]) for course in people.values())])
    ends = ends[ends > 0]
    low, high = float(ends.min()) * 0.85, float(ends.max()) * 1.2
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low < tick < high]
    axes.set_yticks(ticks if high / low < 20 else [tick for tick in ticks if f"{tick:g}".strip("0.") == "1"])
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _write(target: Path, make: Any) -> None:
    require_matplotlib()
    import matplotlib

    with matplotlib.rc_context(_RC):
        buffer = io.BytesIO()
        make().savefig(buffer, format="png", dpi=130)
    write_atomic(target, buffer.getvalue())
