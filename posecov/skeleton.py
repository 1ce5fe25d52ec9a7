"""Joint names, mirror pairs and limbs. New joints are a YAML file, not code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from posecov import resources
from posecov.errors import PosecovError
from posecov.plain import is_number, read_yaml
from posecov.suggest import nearest

MAX_JOINTS = 1000
"""A pose's covariance has four times the square of the number of joints."""


@dataclass(frozen=True)
class Skeleton:
    """The joints of a pose, in the order of its keypoints.

    Attributes:
        name: short name, also that of its file.
        keypoints: the J joint names. Left and right (``l_``, ``r_``) are the person's own.
        flip_pairs: joints that change places when a picture is mirrored.
        limbs: pairs of joints to draw a line between.
        torso: the two joints whose distance is the unit of PCK and of sizes, or None.
        oks_sigmas: COCO's falloff per joint, or None.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] = ()
    limbs: tuple[tuple[str, str], ...] = ()
    torso: tuple[str, str] | None = None
    oks_sigmas: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, joint: str) -> int:
        """Index of a joint by name. Raises PosecovError naming the joints there are."""
        try:
            return self.keypoints.index(joint)
        except ValueError:
            raise PosecovError(
                f"no joint {joint!r} in skeleton {self.name}; its joints are {', '.join(self.keypoints)}"
                f"{nearest(joint, self.keypoints)}"
            ) from None

    @property
    def flip_permutation(self) -> np.ndarray:
        """(J,) index p with mirrored_pose = mirrored_points[p]. It is its own inverse."""
        permutation = np.arange(len(self))
        for first, second in self.flip_pairs:
            a, b = self.index(first), self.index(second)
            permutation[a], permutation[b] = b, a
        return permutation

    @property
    def limb_indices(self) -> list[tuple[int, int]]:
        """Limbs as pairs of joint indices."""
        return [(self.index(a), self.index(b)) for a, b in self.limbs]

    @property
    def torso_indices(self) -> tuple[int, int]:
        """The two joints of the torso. Raises PosecovError when the skeleton names none."""
        if self.torso is None:
            raise PosecovError(f"skeleton {self.name} names no torso; add 'torso: [joint, joint]' to it")
        return self.index(self.torso[0]), self.index(self.torso[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, as in the YAML file."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str = "skeleton") -> "Skeleton":
        """The inverse of `to_dict`. Raises PosecovError that names ``source`` and the wrong field."""
        if not isinstance(fields, Mapping):
            raise PosecovError(f"{source}: not a skeleton (a mapping with name and keypoints)")
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise PosecovError(f"{source}: unknown field {sorted(map(str, unknown))[0]!r} in the skeleton")
        names = fields.get("keypoints")
        if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) for n in names):
            raise PosecovError(f"{source}: 'keypoints' must be a list of joint names")
        if len(names) > MAX_JOINTS:
            raise PosecovError(f"{source}: {len(names)} 'keypoints' are too many; at most {MAX_JOINTS} can be")
        if len(set(names)) != len(names):
            raise PosecovError(f"{source}: a joint name stands twice in 'keypoints'")

        def pairs(key: str) -> tuple[tuple[str, str], ...]:
            value = fields.get(key) or []
            rows = [value] if key == "torso" and value else value
            if not isinstance(rows, list | tuple):
                raise PosecovError(f"{source}: {key!r} must be a list of pairs of joint names")
            for row in rows:
                if not isinstance(row, list | tuple) or len(row) != 2 or any(n not in names for n in row):
                    raise PosecovError(f"{source}: {row!r} in {key!r} is not a pair of joints of this skeleton")
            return tuple((str(a), str(b)) for a, b in rows)

        flips = pairs("flip_pairs")
        mirrored = [joint for pair in flips for joint in pair]
        if len(set(mirrored)) != len(mirrored):
            raise PosecovError(f"{source}: a joint stands in two 'flip_pairs'")
        _check_sides(names, flips, source)
        sigmas = fields.get("oks_sigmas")
        if sigmas is not None:
            each = isinstance(sigmas, list | tuple) and len(sigmas) == len(names)
            if not each or not all(is_number(sigma) and sigma > 0 for sigma in sigmas):
                raise PosecovError(f"{source}: 'oks_sigmas' needs one positive number for each of the {len(names)} joints")
        torso = pairs("torso")
        return cls(
            name=str(fields.get("name", "custom")),
            keypoints=tuple(names),
            flip_pairs=flips,
            limbs=pairs("limbs"),
            torso=torso[0] if torso else None,
            oks_sigmas=None if sigmas is None else tuple(float(s) for s in sigmas),
        )


def canonical_joint(name: str) -> str:
    """A joint's name as it is compared across data sets: ``left_elbow``, ``Left Elbow`` and ``elbow_l`` are ``l_elbow``."""
    words = name.strip().lower().replace("-", "_").replace(" ", "_").replace(".", "_").split("_")
    words = [word for word in words if word]
    sides = {"left": "l", "right": "r", "l": "l", "r": "r"}
    if len(words) > 1 and words[-1] in sides and words[0] not in sides:
        words = [words[-1], *words[:-1]]
    if len(words) > 1 and words[0] in sides:
        words[0] = sides[words[0]]
    return "_".join(words)


def _check_sides(names: Sequence[str], flips: Sequence[tuple[str, str]], source: str) -> None:
    """Where names tell left from right, pairs must be left and right of one joint, and none may be missing."""
    by_name = {canonical_joint(name): name for name in names}
    if len(by_name) != len(names):
        twice = next(name for name in names if by_name[canonical_joint(name)] != name)
        raise PosecovError(f"{source}: joints {twice!r} and {by_name[canonical_joint(twice)]!r} have the same name")
    partners = {a: b for first, second in flips for a, b in ((first, second), (second, first))}
    opposite = {"l_": "r_", "r_": "l_"}
    for name, joint in by_name.items():
        if name[:2] not in opposite:
            continue
        other = by_name.get(opposite[name[:2]] + name[2:])
        if joint in partners and partners[joint] != other:
            should = f"{other!r}" if other else "nothing: its other side is not a joint"
            raise PosecovError(f"{source}: 'flip_pairs' pair {joint!r} with {partners[joint]!r}, its other side is {should}")
        if other and joint not in partners:
            raise PosecovError(f"{source}: 'flip_pairs' lacks the pair [{joint}, {other}]")


def load_skeleton(name_or_path: str | Path) -> Skeleton:
    """A shipped skeleton by name (``lsp14``, ``mpii16``, ``coco17``), or a YAML file by path.

    Raises:
        PosecovError: no such skeleton, or the file is not one.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resources.find(f"configs/skeletons/{name_or_path}.yaml")
    return Skeleton.from_dict(read_yaml(path, "skeleton"), source=str(path))
