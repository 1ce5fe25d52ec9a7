"""Real crops to compare an exported model with torch on."""

from pathlib import Path

import numpy as np

from posecov.errors import PosecovError
from posecov.geometry import crop_map, warp
from posecov.images import read_image
from posecov.learn.config import TrainConfig


def parity_crops(config: TrainConfig, data_root: str, count: int) -> tuple[np.ndarray, str]:
    """Crops (count, S, S, 3) uint8 BGR and where they come from.

    Validation people of the run when its data is at hand, else random crops of the photos in scikit-image's wheel.

    Raises:
        PosecovError: neither is there.
    """
    from posecov.learn.training import load_people

    if count < 1:
        raise PosecovError(f"--crops {count}: parity needs at least one crop")
    size, padding = config.model.input_size, config.model.padding
    try:
        people = load_people(config, data_root).validation
    except PosecovError:
        if data_root:
            raise
        people = []
    if people:
        chosen = [people[i] for i in np.linspace(0, len(people) - 1, count).astype(int)]
        crops = [warp(read_image(p.image), crop_map(p.box, size, padding), size) for p in chosen]
        return np.stack(crops), f"{config.data.held_from}'s validation people"
    try:
        import skimage
    except ImportError:
        raise PosecovError("no crops to check parity on: give --data-root DIR, or pip install scikit-image") from None
    folder = Path(skimage.__file__).parent / "data"
    pictures = [read_image(folder / name) for name in ("astronaut.png", "camera.png")]
    rng = np.random.default_rng(0)
    crops = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        side = rng.uniform(0.2, 1.0) * min(picture.shape[:2])
        corner = rng.random(2) * (np.array(picture.shape[1::-1]) - side)
        crops.append(warp(picture, crop_map(np.array([*corner, side, side]), size, padding), size))
    return np.stack(crops), "scikit-image's photos"
