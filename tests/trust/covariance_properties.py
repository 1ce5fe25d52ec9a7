"""What must hold of every covariance that a user gets, whatever came in. The tests run few cases of it, tools/trust many.

Each property takes a case and a `Watch`, which asserts that a covariance is finite, symmetric and positive definite in float32
and notes how near to its end the worst one came.
"""

import csv
import dataclasses
import importlib.util
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import covariance_cases as cases
import numpy as np
from hypothesis import strategies as st

from posecov import coordinates, law
from posecov.clicks import best_click, expected_gain
from posecov.estimator import mixture_law
from posecov.fixes import read_fixes
from posecov.geometry import Similarity
from posecov.learn.calibration.laws import calibrated_law
from posecov.learn.calibration.shared import Calibration
from posecov.metadata import ModelMetadata
from posecov.mixture import Mixture
from posecov.output import CSV_COLUMNS, csv_rows, picture_document
from posecov.pose import Pose
from posecov.tracking import KalmanFilter, smooth
from posecov.video import results, tables
from posecov.video.frames import Followed

ROOT = Path(__file__).resolve().parents[2]
SAME = 1e-3
"""How far a covariance may be from what the law says, over the standard deviations."""


@dataclass
class Watch:
    """Judges covariances.

    Attributes:
        judged: how many.
        smallest: the smallest eigenvalue of any as a correlation matrix.
        condition: the largest condition number of any, likewise.
    """

    judged: int = 0
    smallest: float = math.inf
    condition: float = 0.0

    def matrix(self, covariance: np.ndarray, single: bool = True) -> None:
        """Assert that it is a covariance, also for a program that computes in float32 (``single``)."""
        assert np.isfinite(covariance).all(), "not finite"
        if not len(covariance):
            return
        if single:
            covariance = np.asarray(covariance, dtype=np.float32)
            assert np.isfinite(covariance).all(), "not finite in float32"
            assert (covariance == covariance.T).all(), "not symmetric"
        wide = covariance.astype(np.float64)
        assert (np.diagonal(wide) > 0).all(), "a variance is not positive"
        sigma = np.sqrt(np.diagonal(wide))
        scaled = wide / sigma[:, None] / sigma
        assert abs(scaled - scaled.T).max() < 1e-9, "not symmetric"
        eigenvalues = np.linalg.eigvalsh(scaled)
        smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
        assert smallest > 0, f"not positive definite: smallest eigenvalue as a correlation matrix {smallest:.3g}"
        # LAPACK's own for float32: what a program meets that never leaves it.
        try:
            np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            raise AssertionError(f"has no Cholesky factor in {covariance.dtype} (smallest {smallest:.3g})") from None
        self.judged += 1
        if single:
            self.smallest, self.condition = min(self.smallest, smallest), max(self.condition, largest / smallest)

    def pose(self, pose: Pose) -> None:
        """Assert it of a pose: rows of known joints are 0, the rest is a covariance; and so are its components'."""
        assert pose.covariance.dtype == np.float32
        assert np.isfinite(pose.keypoints).all(), "keypoints not finite"
        fixed = coordinates.rows([pose.skeleton.index(name) for name in pose.known])
        free = np.setdiff1d(np.arange(len(pose.covariance)), fixed)
        assert (pose.covariance[fixed] == 0).all()
        assert (pose.covariance == pose.covariance.T).all(), "not symmetric"
        self.matrix(pose.covariance[np.ix_(free, free)])
        if pose.components is not None:
            for scatter in pose.components.scatters:
                self.matrix(scatter)


def near(found: np.ndarray, expected: np.ndarray, share: float = SAME) -> None:
    """Assert that a covariance is another one up to a share of the standard deviations, not merely some covariance."""
    sigma = np.sqrt(np.diagonal(np.asarray(expected, dtype=np.float64)))
    away = abs(np.asarray(found, dtype=np.float64) - expected) / np.maximum(sigma[:, None] * sigma, np.finfo(float).tiny)
    assert away.size == 0 or away.max() <= share, f"a covariance is {away.max():.2g} of its standard deviations from the law's"


def estimated(case: cases.LawCase, watch: Watch) -> None:
    """A pose, and its alternatives, have the law's covariance."""
    people, pose = kept_means(case.law()), case.pose()
    watch.pose(pose)
    near(pose.covariance, people.covariance)
    for other, _ in pose.alternatives:
        watch.pose(other)
    if drawn(case):
        axes, _ = pose.ellipses()
        assert np.isfinite(axes).all()
        assert (axes > 0).all()


def drawn(case: cases.LawCase) -> bool:
    """Whether ellipses are asked for too: those of mixtures take longer than all the rest."""
    return case.weights == "single" or case.seed % 8 == 0


def kept_means(people: law.Law | Mixture) -> law.Law | Mixture:
    """The law about means in float32: far from the origin their digits are pixels, and components' distances change."""
    if isinstance(people, law.Law):
        return people
    return dataclasses.replace(people, means=people.means.astype(np.float32).astype(np.float64))


def mapped(case: cases.MapCase, watch: Watch) -> None:
    """So has a pose in other pixels, and the one mapped back."""
    cosine, sine = math.cos(case.rotation), math.sin(case.rotation)
    linear = 10.0**case.log_scale * np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1.0 if case.mirror else 1.0, 1.0])
    there = Similarity(linear, np.array([1.0, -0.3]) * 10.0**case.log_away)
    pose = case.law.pose()
    moved = pose.mapped(there)
    watch.pose(moved)
    if pose.components is None:
        near(moved.covariance, there.covariance(pose.covariance.astype(np.float64)))
    else:
        near(moved.components.scatter[0], there.covariance(pose.components.scatter[0]))
    watch.pose(moved.mapped(there.inverse()))


def conditioned(case: cases.EvidenceCase, watch: Watch) -> None:
    """So has a pose once joints are known: fixed from a file's text, clicked one by one, and the best one to click."""
    pose, rng = case.law.pose(), np.random.default_rng(case.law.seed + 5)
    for _ in range(case.clicks):
        left = [name for name in pose.names if name not in pose.known]
        if not left:
            break
        chosen = rng.choice(left, max(1, round(case.share * len(left))), replace=False).tolist()
        away = {name: case.away * pose.sigma[pose.skeleton.index(name)] * rng.choice([-1.0, 1.0], 2) for name in chosen}
        places = {name: (pose.keypoints[pose.skeleton.index(name)] + shift).tolist() for name, shift in away.items()}
        [known] = read_fixes(json.dumps(places)).of(Path("any.jpg"))
        before, pose = pose, pose.condition(known)
        watch.pose(pose)
        if case.away == 0.0 and pose.components is None and math.isinf(pose.degrees_of_freedom):
            # What fits does not make anything less sure.
            assert (pose.sigma <= before.sigma * (1 + SAME)).all()
        for other, _ in pose.alternatives:
            watch.pose(other)
        if len(pose.known) < len(pose.names):
            assert np.isfinite(expected_gain(pose)).all()
            clicked = best_click(pose)
            watch.pose(pose.condition({clicked: pose.keypoints[pose.skeleton.index(clicked)]}))


def marginal(case: cases.EvidenceCase, watch: Watch) -> None:
    """So has the law of some joints alone, of the vector between two, and of what a mixture leaves when some are known."""
    pose, rng = case.law.pose(), np.random.default_rng(case.law.seed + 6)
    people, joints = pose._law(), len(pose.names)
    chosen = rng.choice(joints, max(1, round(case.share * joints)), replace=False)
    rows = coordinates.rows(chosen)
    some = people.marginal(rows)
    watch.matrix(some.covariance, single=False)
    watch.matrix(pose.covariance[np.ix_(rows, rows)])
    near(some.covariance, pose.covariance[np.ix_(rows, rows)])
    if isinstance(some, Mixture):
        for scatter in some.scatters:
            watch.matrix(scatter, single=False)
    if joints > 1:
        first, second = coordinates.rows([0]), coordinates.rows([joints - 1])
        watch.matrix(people.difference(first, second).covariance, single=False)
        rest = people.condition(first, people.mean[first] + case.away * np.sqrt(np.diagonal(people.covariance)[first]))
        watch.matrix(rest.covariance, single=False)


def calibrated(case: cases.CalibrationCase, watch: Watch) -> None:
    """So has a law with a calibration's numbers."""
    people, joints = case.law.law(), len(cases.skeleton_of(case.law.skeleton))
    factor = np.exp(np.random.default_rng(case.law.seed).uniform(-case.log_factor, case.log_factor, joints))
    nu = math.inf if math.isinf(case.law.degrees) else case.degrees
    found = Calibration(factor, case.shrinkage, nu, 0.0, 0.0, case.temperature, case.shift)
    if isinstance(people, Mixture):
        arrays = (people.weights[None], people.means[None], people.scatter[None])
        batch = Mixture(*arrays, people.degrees_of_freedom, people.orders)
        result: Any = kept_means(calibrated_law(batch, found)[0])
        pose = Pose.from_mixture(result, cases.skeleton_of(case.law.skeleton))
    else:
        result = calibrated_law(people, found)
        pose = Pose(coordinates.unflatten(result.mean), result.covariance, cases.skeleton_of(case.law.skeleton), nu)
    watch.matrix(result.covariance, single=False)
    watch.pose(pose)
    near(pose.covariance, result.covariance)


def filtered(case: cases.FilmCase, watch: Watch) -> None:
    """So have the poses of the live filter, also where nobody is seen."""
    kalman = KalmanFilter()
    for pose, time_s in zip(case.poses(), case.times(), strict=True):
        found = kalman.update(pose, time_s)
        if found is not None:
            watch.pose(found)


def smoothed(case: cases.FilmCase, watch: Watch) -> None:
    """So have those of the smoother."""
    poses = case.poses()
    found = smooth(poses, case.times())
    for pose, result in zip(poses, found, strict=True):
        assert pose is None or result is not None
        if result is not None:
            watch.pose(result)


def written(case: cases.EvidenceCase, watch: Watch) -> None:
    """JSON and CSV say the same again, bit for bit, and nothing in them is not a number."""
    pose = case.law.pose()
    if case.clicks > 1:
        pose = pose.condition({pose.names[0]: pose.keypoints[0]})
    again = Pose.from_dict(json.loads(json.dumps(pose.to_dict(), allow_nan=False)))
    same_pose(pose, again)
    watch.pose(again)
    if not drawn(case.law):
        return
    document = json.loads(json.dumps(picture_document("a.png", 64, 48, "model", 0.95, [pose]), allow_nan=False))
    same_pose(pose, Pose.from_dict(document["people"][0]))
    text = io.StringIO()
    csv.writer(text).writerows([CSV_COLUMNS, *csv_rows("a.png", 64, 48, 0.95, [pose])])
    for row in csv.DictReader(io.StringIO(text.getvalue())):
        major, minor, sigma = (float(row[key]) for key in ("semi_major", "semi_minor", "sigma"))
        assert math.isfinite(major)
        assert (major >= minor > 0) == (row["joint"] not in pose.known)
        assert (sigma > 0) == (row["joint"] not in pose.known)


def filmed(case: cases.FilmCase, watch: Watch) -> None:
    """So do the results of a film, and the tables that are made of them."""
    poses, times = case.poses(), case.times()
    after = smooth(poses, times)
    skeleton = cases.skeleton_of(case.first.skeleton)
    exchanges = () if case.first.weights == "single" else cases.exchanges_of(skeleton)
    metadata = ModelMetadata("model", skeleton, 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.1, case.first.degrees, exchanges)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.jsonl"
        (Path(folder) / "model.onnx").write_bytes(b"")
        header = results.make_header("film.mp4", 64, 48, metadata, Path(folder) / "model.onnx", "offline")
        writer = results.ResultsWriter(path, header)
        lines = zip(poses, after, times, strict=True)
        people = [[] if new is None else [Followed(1, new, old)] for old, new, _ in lines]
        for index, (time_s, seen) in enumerate(zip(times, people, strict=True)):
            writer.write(results.FrameResult(index, time_s, seen))
        writer.close()
        for frame, expected in zip(results.read_results(path)[1], people, strict=True):
            for one, other in zip(frame.people, expected, strict=True):
                same_pose(other.pose, one.pose)
                watch.pose(one.pose)
                if other.measured is not None:
                    same_pose(other.measured, one.measured)
        if not any(people):
            return
        tables.write_npz(path, Path(folder) / "film.npz")
        with np.load(Path(folder) / "film.npz") as arrays:
            for matrix, seen in zip(arrays["covariance"], people, strict=True):
                if seen:
                    assert matrix.dtype == np.float32
                    np.testing.assert_array_equal(matrix[0], seen[0].pose.covariance)
                else:
                    assert np.isnan(matrix).all()
        tables.write_csv(path, Path(folder) / "film.csv")
        rows = [line.split(",")[1:] for line in (Path(folder) / "film.csv").read_text().splitlines()[3:]]
        for row, seen in zip(rows, people, strict=True):
            assert all(math.isfinite(float(cell)) for cell in row) if seen else not any(row)


def same_pose(pose: Pose, again: Pose) -> None:
    """Assert that two poses are the same, bit for bit."""
    np.testing.assert_array_equal(again.keypoints, pose.keypoints)
    np.testing.assert_array_equal(again.covariance, pose.covariance)
    assert again.degrees_of_freedom == pose.degrees_of_freedom
    assert again.known == pose.known
    assert (again.components is None) == (pose.components is None)
    if pose.components is not None:
        for name in ("weights", "means", "scatter"):
            np.testing.assert_array_equal(getattr(again.components, name), getattr(pose.components, name))


def in_pictures(networks: Any) -> Callable[[cases.PictureCase, Watch], None]:
    """The property of networks (`covariance_networks.Networks`) on pictures: the estimator's poses, and deploy's consumer's."""

    def pictured(case: cases.PictureCase, watch: Watch) -> None:
        """So has what the estimator makes of a picture, and deploy's consumer."""
        estimator, image, boxes = networks[case.network], case.picture(), case.placed()
        people = estimator(image, boxes)
        for pose in people:
            watch.pose(pose)
        outputs = estimator.outputs(image, boxes)
        exchanges = estimator.metadata.exchanges
        expected = kept_means(mixture_law(outputs, estimator.metadata)).covariance if exchanges else outputs["covariance"]
        for index, pose in enumerate(people):
            watch.matrix(outputs["covariance"][index])
            near(pose.covariance, expected[index])
        facts, found = consumer().estimate(estimator.model._session, image[..., ::-1], boxes[0].tolist())
        assert facts["name"] == estimator.metadata.name
        watch.matrix(found["covariance"])
        if "scatter" in found:
            watch.matrix(found["scatter"])

    return pictured


@lru_cache
def consumer() -> Any:
    """deploy/examples/consumer.py."""
    spec = importlib.util.spec_from_file_location("consumer", ROOT / "deploy" / "examples" / "consumer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Property = tuple[st.SearchStrategy[Any], Callable[[Any, Watch], None]]

PROPERTIES: Mapping[str, Property] = {
    "estimated": (cases.laws(), estimated),
    "mapped": (cases.maps(), mapped),
    "conditioned": (cases.evidence(), conditioned),
    "marginal": (cases.evidence(), marginal),
    "calibrated": (cases.calibrations(), calibrated),
    "filtered": (cases.films(), filtered),
    "smoothed": (cases.films(), smoothed),
    "written": (cases.evidence(), written),
    "filmed": (cases.films(), filmed),
}
"""Cases and what must hold of them; `in_pictures` needs networks too."""
