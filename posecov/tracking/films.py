"""Real films to measure filters by: one person's poses, the same with limbs painted over, and a track to hold them against.

Nobody knows the truth of a film. The offline smoother on the untouched film stands for it, which sees more than what is
measured against it: later frames, and limbs that are painted over for the others. What it cannot see are errors that last as
long as the motion itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.pose import Pose
from posecov.skeleton import Skeleton
from posecov.tracking.measurement import likeliest
from posecov.tracking.motion import MotionModel, error_root, person_size
from posecov.tracking.smoother import smooth
from posecov.tracking.synthetic import Film
from posecov.video.frames import Followed, Frame
from posecov.video.people import boxes_around
from posecov.video.reading import Film as Reader
from posecov.video.results import FrameResult, ResultsWriter, make_header, read_results
from posecov.video.run import Settings, run_film
from posecov.video.smoothing import smoothed

LIMBS = (("r_elbow", "r_wrist"), ("l_knee", "l_ankle"), ("l_elbow", "l_wrist"), ("r_knee", "r_ankle"))
"""Painted over one after the other."""

HIDDEN_S, EVERY_S = 0.4, 0.8
"""Seconds for which a limb is hidden, and from one to the next."""

_WIDTH = 0.15  # Of the patch over a person's size: a limb with the clothes around it.


@dataclass(frozen=True, eq=False)
class Measured:
    """The person who is in a film the longest, without a break.

    Attributes:
        name: of the film.
        times_s: (T,).
        poses: as estimated in every frame.
        painted: as estimated where limbs are painted over.
        hidden: (T, J) joints that are.
    """

    name: str
    times_s: np.ndarray
    poses: tuple[Pose, ...]
    painted: tuple[Pose, ...]
    hidden: np.ndarray

    def truth(self, model: MotionModel | None = None) -> np.ndarray:
        """(T, J, 2) what the offline smoother makes of the untouched film."""
        found = smooth(self.poses, list(self.times_s), model)
        return np.stack([pose.keypoints for pose in found if pose is not None]).astype(np.float64)

    def film(self, painted: bool = False, model: MotionModel | None = None) -> Film:
        """For `comparison.compare`."""
        hidden = self.hidden if painted else np.zeros_like(self.hidden)
        return Film(self.times_s, self.truth(model), self.painted if painted else self.poses, hidden)


def measure(estimator: PoseEstimator, source: Path, cache: Path) -> Measured:
    """Estimate a film's poses, without and with patches.

    Args:
        estimator: the pose network.
        source: the film.
        cache: folder, made when missing, for the poses: another time, and with the same model, they are read from it.

    Raises:
        PosecovError: a film that cannot be read, or with nobody in it.
    """
    folder = cache / estimator.metadata.name / estimator_digest(estimator)
    folder.mkdir(parents=True, exist_ok=True)
    followed = folder / f"{source.stem}.jsonl"
    if not followed.exists():
        settings = Settings(save=("jsonl",), smooth="none", resume=True, threads=1)
        run_film(estimator, str(source), folder, source.stem, settings)
    first, track = _longest(smoothed(read_results(followed)[1]))
    skeleton = estimator.metadata.skeleton
    hidden = _hidden([result.time for result in track], skeleton)
    found = []
    for kind in ("plain", "painted"):
        path = folder / f"{source.stem}.{kind}.jsonl"
        if not path.exists():
            paint = (lambda image, k: _paint(image, _pose(track[k]), hidden[k])) if kind == "painted" else None
            _estimate(estimator, source, path, first, track, paint)
        found.append(tuple(_pose(result) for result in read_results(path)[1]))
    times = np.array([result.time for result in track])
    return Measured(source.stem, times, found[0], found[1], hidden)


def estimator_digest(estimator: PoseEstimator) -> str:
    """A few letters that tell models of one name apart."""
    header = make_header("", 1, 1, estimator.metadata, estimator.model.path)
    return str(header["model_sha256"])[:12]


def whitened_errors(measured: Measured, truth: np.ndarray) -> np.ndarray:
    """(T, 2J) errors of the estimated poses against a track (T, J, 2), in units of what was predicted for each frame."""
    found = []
    for pose, place in zip(measured.poses, truth, strict=True):
        values = coordinates.flatten(place)
        measurement = likeliest(pose, values, np.zeros((len(values), len(values))))
        found.append(np.linalg.solve(error_root(measurement.covariance), measurement.values - values))
    return np.stack(found)


def autocorrelation(errors: np.ndarray, times_s: np.ndarray, lags_s: Sequence[float]) -> np.ndarray:
    """Correlation about 0 of errors (T, D) with those some seconds later, over all coordinates; frames evenly spaced."""
    step = float(np.median(np.diff(times_s)))
    shifts = [round(lag / step) for lag in lags_s]
    whole = np.square(errors).mean()
    return np.array([(errors[: len(errors) - shift] * errors[shift:]).mean() / whole for shift in shifts])


def _longest(results: Iterator[FrameResult]) -> tuple[int, list[FrameResult]]:
    """The longest piece in which one person is always there: number of its first frame, and frames with that person alone."""
    best: tuple[int, list[FrameResult]] = (0, [])
    going: dict[int, tuple[int, list[FrameResult]]] = {}
    for result in results:
        there = {person.id: person for person in result.people}
        going = {number: going.get(number, (result.frame, [])) for number in there}
        for number, person in there.items():
            going[number][1].append(FrameResult(result.frame, result.time, [person]))
            if len(going[number][1]) > len(best[1]):
                best = going[number]
    if len(best[1]) < 30:
        raise PosecovError("a film to measure by needs somebody in 30 frames that follow each other; give another")
    return best[0], list(best[1])


def _hidden(times: Sequence[float], skeleton: Skeleton) -> np.ndarray:
    """(T, J) which joints are painted over."""
    hidden = np.zeros((len(times), len(skeleton)), dtype=bool)
    limbs = [limb for limb in LIMBS if set(limb) <= set(skeleton.keypoints)]
    for index, time in enumerate(times):
        turn, since = divmod(time - times[0], EVERY_S)
        # Filters are given some time to settle before something is hidden.
        if limbs and since >= EVERY_S - HIDDEN_S:
            hidden[index, [skeleton.index(name) for name in limbs[int(turn) % len(limbs)]]] = True
    return hidden


def _paint(image: np.ndarray, pose: Pose, hidden: np.ndarray) -> np.ndarray:
    """The picture with the hidden limb under a patch of the picture's mean colour."""
    if not hidden.any():
        return image
    painted = image.copy()
    ends = np.round(pose.keypoints[hidden]).astype(int)
    width = max(2, round(_WIDTH * person_size(coordinates.flatten(pose.keypoints.astype(np.float64)))))
    colour = tuple(float(value) for value in image.mean(axis=(0, 1)))
    cv2.line(painted, tuple(map(int, ends[0])), tuple(map(int, ends[-1])), colour, width, cv2.LINE_AA)
    return painted


def _estimate(
    estimator: PoseEstimator,
    source: Path,
    target: Path,
    first: int,
    track: Sequence[FrameResult],
    paint: Callable[[np.ndarray, int], np.ndarray] | None,
) -> None:
    """Estimate one person in every frame of a track, in boxes around the track, which patches leave alone."""
    film = Reader(str(source), 1)
    header = make_header(source.name, film.width, film.height, estimator.metadata, estimator.model.path)
    part = target.with_name(f"{target.stem}.part.jsonl")
    writer = ResultsWriter(part, header)
    frame: Frame
    for frame in film.frames():
        index = frame.index - first
        if 0 <= index < len(track):
            image = frame.image if paint is None else paint(frame.image, index)
            (pose,) = estimator(image, boxes_around([_pose(track[index])]))
            writer.write(FrameResult(index, track[index].time, [Followed(1, pose, pose)]))
    writer.close()
    part.replace(target)


def _pose(result: FrameResult) -> Pose:
    return result.people[0].pose
