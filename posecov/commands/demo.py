"""``posecov demo``: the shipped weights on two free photos, without network and without a picture of one's own.

The photos come with scikit-image (``pip install "posecov[demo]"``): camera.png, a photographer (CC0), and astronaut.png, Eileen
Collins (NASA, public domain). What is written is what ``posecov image`` writes.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from posecov.commands.image import Look, annotate
from posecov.errors import PosecovError

# Photos, and boxes drawn around their people by hand, as far as they go on below the picture.
PHOTOS = {"astronaut.png": (10.0, 10.0, 440.0, 700.0), "camera.png": (10.0, 60.0, 330.0, 560.0)}


@dataclass(frozen=True)
class Demo:
    """See posecov at work on two photos that come with scikit-image."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("posecov-demo")
    """Folder for the results, made when missing."""

    mass: float = 0.95
    """Probability with which an ellipse holds its joint."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads of the network; all cores without it."""

    def run(self) -> int:
        """Exit code 0. Raises PosecovError when scikit-image or the weights are missing."""
        import numpy as np

        from posecov.commands.pictures import People

        people = People({name: np.array([box]) for name, box in PHOTOS.items()})
        return annotate(demo_photos(), self.out, Look(self.mass), people, threads=self.threads)


def demo_photos() -> list[Path]:
    """The photos inside the installed scikit-image, found without importing it. Raises PosecovError without them."""
    spec = find_spec("skimage")
    folders = [Path(folder) / "data" for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        photos = [folder / name for name in PHOTOS]
        if all(photo.is_file() for photo in photos):
            return photos
    raise PosecovError('the demo\'s photos come with scikit-image, which is not here; pip install "posecov[demo]"')
