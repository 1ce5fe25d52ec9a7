"""What the covariance is tried on: random laws, films, pictures and boxes, each from a few numbers that can be read."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from posecov import coordinates, law
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.mixture import Mixture
from posecov.pose import Pose
from posecov.skeleton import Skeleton, load_skeleton

SHAPES = ("full", "low rank", "one for all", "ellipses", "diagonal")
WEIGHTS = ("single", "even", "sure", "rare", "random")
DEGREES = (2.001, 2.05, 3.0, 6.0, 40.0, 1e7, math.inf)
SIDES = ((1, 1), (1, 3000), (4000, 2), (7, 9), (64, 48), (640, 360))
PICTURES = ("black", "white", "grey", "noise", "saturated", "stripes")
BOXES = ("whole", "part", "tiny", "huge", "thin", "across the edge", "outside", "far")


@lru_cache
def skeleton_of(which: str | int) -> Skeleton:
    """A skeleton that ships, or one of so many joints: pairs in a chain from the trunk, and one without a partner if odd."""
    if isinstance(which, str):
        return load_skeleton(which)
    pairs = [(f"r_{pair}", f"l_{pair}") for pair in range(which // 2)]
    names = [name for pair in pairs for name in pair] + ["middle"] * (which % 2)
    limbs = [limb for near, far in pairwise(pairs) for limb in zip(near, far, strict=True)]
    limbs += [(pairs[0][0], "middle"), (pairs[0][1], "middle")] if which % 2 and pairs else []
    return Skeleton(f"chain{which}", tuple(names), tuple(pairs), tuple(limbs))


@dataclass(frozen=True)
class LawCase:
    """A law, with lengths in pixels.

    Attributes:
        skeleton: a name, or how many joints.
        shape: of the correlations, one of `SHAPES`.
        weights: of the exchanges, one of `WEIGHTS`; "single" for none.
        degrees: of freedom.
        log_sigma: log10 of the typical standard deviation.
        log_range: log10 of how many times larger or smaller those of single coordinates may be.
        log_floor: log10 of what is added to the correlations' eigenvalues: that of the smallest one, about.
        log_extent: log10 of the size of the person.
        log_offset: log10 of where the person is.
        seed: of everything else.
    """

    skeleton: str | int = "lsp14"
    shape: str = "full"
    weights: str = "single"
    degrees: float = 6.0
    log_sigma: float = 0.5
    log_range: float = 0.0
    log_floor: float = -2.0
    log_extent: float = 2.0
    log_offset: float = 2.0
    seed: int = 0

    @cached_property
    def covariance(self) -> np.ndarray:
        """(D, D) float64, of one component."""
        rng, size = np.random.default_rng(self.seed), 2 * len(skeleton_of(self.skeleton))
        joints = np.repeat(np.arange(size // 2), 2)
        if self.shape == "one for all":
            matrix = np.ones((size, size))
        elif self.shape == "ellipses":
            sides = np.repeat(rng.standard_normal((size // 2, 1)), 2, axis=1).reshape(-1) * np.tile([1.0, 0.5], size // 2)
            matrix = np.outer(sides, sides) * (joints[:, None] == joints)
        elif self.shape == "diagonal":
            matrix = np.eye(size)
        else:
            factor = rng.standard_normal((size, 2 if self.shape == "low rank" else size))
            matrix = factor @ factor.T
        matrix = matrix + 10**self.log_floor * np.trace(matrix) / size * np.eye(size)
        own = np.sqrt(np.diagonal(matrix))
        sigma = 10 ** (self.log_sigma + self.log_range * rng.uniform(-1, 1, size)) / own
        return sigma[:, None] * matrix * sigma

    @cached_property
    def mean(self) -> np.ndarray:
        """(D,)."""
        rng, size = np.random.default_rng(self.seed + 1), 2 * len(skeleton_of(self.skeleton))
        return 10**self.log_offset * np.tile(rng.choice([-1.0, 1.0], 2), size // 2) + 10**self.log_extent * rng.random(size)

    def law(self) -> law.Law | Mixture:
        """In float64, as a network's outputs are read."""
        scatter, skeleton = law.scatter_from_covariance(self.covariance, self.degrees), skeleton_of(self.skeleton)
        if self.weights == "single":
            return law.Law(self.mean, scatter, self.degrees)
        orders = coordinate_orders(exchanges_of(skeleton))
        return Mixture.of_exchanges(self.mean, scatter, self.degrees, self._shares(len(orders)), orders)

    def pose(self) -> Pose:
        """As an estimator makes it."""
        people, skeleton = self.law(), skeleton_of(self.skeleton)
        if isinstance(people, Mixture):
            return Pose.from_mixture(people, skeleton)
        return Pose(coordinates.unflatten(people.mean), people.covariance, skeleton, self.degrees)

    def _shares(self, count: int) -> np.ndarray:
        shares = np.full(count, 1.0 / count)
        if self.weights == "sure":
            shares = np.where(np.arange(count) == count - 1, 1.0, 0.0)
        elif self.weights == "rare":
            shares = np.where(np.arange(count) == 0, 1.0, 1e-9)
        elif self.weights == "random":
            shares = np.random.default_rng(self.seed + 2).dirichlet(np.full(count, 0.3))
        return shares


def laws(weights: tuple[str, ...] = WEIGHTS) -> st.SearchStrategy[LawCase]:
    """Laws of all sizes, shapes and degrees of freedom."""
    return st.builds(
        LawCase,
        skeleton=st.sampled_from(["lsp14", "coco17", "mpii16", 1, 2, 3, 5]),
        shape=st.sampled_from(SHAPES),
        weights=st.sampled_from(weights),
        degrees=st.sampled_from(DEGREES),
        log_sigma=st.integers(-3, 4),
        log_range=st.sampled_from([0.0, 0.5, 2.0]),
        log_floor=st.integers(-12, 0),
        log_extent=st.integers(-2, 4),
        log_offset=st.integers(0, 5),
        seed=st.integers(0, 2**20),
    )


@dataclass(frozen=True)
class EvidenceCase:
    """A law of which some joints become known, one click after the other.

    Attributes:
        law: before.
        share: of the joints that become known.
        away: how far from its place each is, in standard deviations.
        clicks: how many there are.
    """

    law: LawCase
    share: float
    away: float
    clicks: int


def evidence() -> st.SearchStrategy[EvidenceCase]:
    """Clicks that fit, that do not, and on every joint."""
    away = st.sampled_from([0.0, 1.0, 10.0, 1e3])
    return st.builds(EvidenceCase, laws(), st.sampled_from([0.1, 0.5, 1.0]), away, st.integers(1, 3))


@dataclass(frozen=True)
class MapCase:
    """A law and the map to the pixels of another frame.

    Attributes:
        law: in a crop.
        log_scale: log10 of target pixels per source pixel.
        rotation: radians.
        mirror: whether the frame is mirrored.
        log_away: log10 of pixels by which the frame is shifted.
    """

    law: LawCase
    log_scale: float
    rotation: float
    mirror: bool
    log_away: float


def maps() -> st.SearchStrategy[MapCase]:
    """From crops far smaller than a pixel to crops larger than any picture."""
    angle = st.floats(-math.pi, math.pi, allow_nan=False)
    return st.builds(MapCase, laws(), st.integers(-5, 6), angle, st.booleans(), st.integers(-1, 6))


@dataclass(frozen=True)
class FilmCase:
    """Poses of one person through time.

    Attributes:
        first: the law of a frame; the others' have the same numbers and other seeds.
        frames: how many.
        log_dt: log10 of seconds between two, about.
        changing: whether they differ in sigma, by up to a thousand times.
        moving: how far a person moves from frame to frame, in sizes of its own.
        missing: share of frames in which nobody is seen.
        known: share of frames in which joints are known.
    """

    first: LawCase
    frames: int
    log_dt: float
    changing: bool
    moving: float
    missing: float
    known: float

    def poses(self) -> list[Pose | None]:
        rng = np.random.default_rng(self.first.seed + 3)
        found: list[Pose | None] = []
        for index in range(self.frames):
            fields = {**self.first.__dict__, "seed": self.first.seed + 10 * index}
            fields = {name: value for name, value in fields.items() if name in LawCase.__dataclass_fields__}
            if self.changing:
                fields["log_sigma"] += rng.uniform(-1.5, 1.5)
            case = LawCase(**fields)
            size = len(case.mean)
            walk = self.moving * 10**self.first.log_extent * rng.standard_normal(2) * index
            case.__dict__["mean"] = self.first.mean + np.tile(walk, size // 2) + 0.1 * (case.mean - self.first.mean)
            if index and rng.random() < self.missing:
                found.append(None)
                continue
            pose = case.pose()
            if rng.random() < self.known:
                chosen = rng.choice(size // 2, rng.integers(1, size // 2 + 1), replace=False)
                pose = pose.condition({pose.names[joint]: pose.keypoints[joint] for joint in chosen})
            found.append(pose)
        return found

    def times(self) -> list[float]:
        rng = np.random.default_rng(self.first.seed + 4)
        return np.cumsum(10**self.log_dt * rng.uniform(0.5, 2.0, self.frames)).tolist()


def films() -> st.SearchStrategy[FilmCase]:
    """Short films of every frame rate, with gaps and people who jump."""
    return st.builds(
        FilmCase,
        laws(),
        frames=st.integers(1, 7),
        log_dt=st.sampled_from([-4, -2, -1.4, -1, 0.3]),
        changing=st.booleans(),
        moving=st.sampled_from([0.0, 0.05, 3.0]),
        missing=st.sampled_from([0.0, 0.4]),
        known=st.sampled_from([0.0, 0.0, 0.3]),
    )


@dataclass(frozen=True)
class CalibrationCase:
    """A law and what a calibration may have found.

    Attributes:
        law: before.
        log_factor: natural log of the largest factor on a sigma, or the smallest; e^3.35 is the most that one can find.
        shrinkage: of the correlations between joints.
        degrees: of freedom.
        temperature: of the exchanges' logits.
        shift: of them.
    """

    law: LawCase
    log_factor: float
    shrinkage: float
    degrees: float
    temperature: float
    shift: float


def calibrations() -> st.SearchStrategy[CalibrationCase]:
    """To the ends of what calibration may find."""
    return st.builds(
        CalibrationCase,
        laws(),
        st.sampled_from([0.0, 0.5, 3.35]),
        st.sampled_from([0.0, 0.1, 0.3]),
        st.sampled_from([2.05, 6.0, 1500.0]),
        st.sampled_from([0.14, 1.0, 7.4]),
        st.sampled_from([-5.0, 0.0, 5.0]),
    )


@dataclass(frozen=True)
class PictureCase:
    """A picture with boxes, for a network.

    Attributes:
        network: its number.
        kind: one of `PICTURES`.
        width: pixels.
        height: pixels.
        boxes: of `BOXES`.
        seed: of the rest.
    """

    network: int
    kind: str
    width: int
    height: int
    boxes: tuple[str, ...]
    seed: int

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        rng, shape = np.random.default_rng(self.seed), (self.height, self.width, 3)
        if self.kind == "noise":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        if self.kind == "saturated":
            return np.where(rng.random(shape) < 0.5, 0, 255).astype(np.uint8)
        if self.kind == "stripes":
            return np.broadcast_to(np.where(np.arange(self.width) % 2, 255, 0).astype(np.uint8)[None, :, None], shape).copy()
        return np.full(shape, {"black": 0, "white": 255, "grey": 127}[self.kind], dtype=np.uint8)

    def placed(self) -> np.ndarray:
        """(N, 4) x, y, width, height."""
        rng, w, h = np.random.default_rng(self.seed + 1), float(self.width), float(self.height)
        x, y = rng.random(2) * (w, h)
        kinds = {
            "whole": (0.0, 0.0, w, h),
            "part": (x / 2, y / 2, w / 3, h / 2),
            "tiny": (x, y, *10 ** rng.uniform(-9, 0, 2)),
            "huge": (-1e4 * x, -1e4 * y, 1e5 * w, 1e5 * h),
            "thin": (x, y, 1e-3, h * 50),
            "across the edge": (-w / 2, h / 3, w, h),
            "outside": (3 * w, -4 * h, w, h),
            "far": (1e6 * (1 + x), -1e6, 40.0, 90.0),
        }
        return np.array([kinds[kind] for kind in self.boxes])


def pictures(networks: int) -> st.SearchStrategy[PictureCase]:
    """Pictures that show nobody, for one of so many networks."""
    return st.builds(
        lambda network, kind, side, boxes, seed: PictureCase(network, kind, *side, tuple(boxes), seed),
        st.integers(0, networks - 1),
        st.sampled_from(PICTURES),
        st.sampled_from(SIDES),
        st.lists(st.sampled_from(BOXES), min_size=1, max_size=3),
        st.integers(0, 2**20),
    )
