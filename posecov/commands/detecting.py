"""Options of the commands that find people with a detector: a field of theirs, under ``tyro.conf.OmitArgPrefixes``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from posecov.errors import PosecovError

if TYPE_CHECKING:
    import numpy as np

    from posecov.detectors import PersonDetector


@dataclass(frozen=True)
class Detecting:
    """Finding people with a detector."""

    detector: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A detector (.onnx) that says where people are: YOLOX, YOLOv5 to YOLO26, RTMDet, DETR and its relatives, torchvision."""

    person_class: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """The detector's class of a person; without it, what the file says, else 1 for COCO's ids (torchvision, DETR), else 0."""

    detector_threshold: Annotated[float | None, tyro.conf.arg(metavar="P")] = None
    """Least score of a person, 0.3 without it; also for detection results given as --boxes, as is --person-class."""

    detector_layout: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """What the detector is, where it is not recognised, or wrongly: 'yolox-mmdeploy', for one, looks like 'rtmdet'."""

    def open(self, threads: int | None) -> "PersonDetector | None":
        """The detector, None when there is none.

        Raises:
            PosecovError: it cannot be opened, or the other options are given without it.
        """
        if self.detector is None:
            given = {"--person-class": self.person_class, "--detector-threshold": self.detector_threshold}
            self._refuse({**given, "--detector-layout": self.detector_layout}, "--detector")
            return None
        if self.detector_threshold is not None and not 0 < self.detector_threshold < 1:
            raise PosecovError(f"--detector-threshold must lie between 0 and 1, not {self.detector_threshold:g}")
        from posecov.boxes import THRESHOLD
        from posecov.detectors import PersonDetector

        return PersonDetector(
            self.detector,
            threads=threads,
            layout=self.detector_layout,
            class_index=self.person_class,
            threshold=THRESHOLD if self.detector_threshold is None else self.detector_threshold,
        )

    def boxes(self, path: Path) -> "dict[str, np.ndarray]":
        """The boxes of a file (`boxes.read_boxes`); class and threshold are for COCO detection results in it.

        Raises:
            PosecovError: it cannot be read, or there is a detector too.
        """
        from posecov.boxes import read_boxes

        if self.detector is not None:
            raise PosecovError("--boxes and --detector both say where people are; give one of them")
        self._refuse({"--detector-layout": self.detector_layout}, "--detector")
        return read_boxes(path, category=self.person_class, threshold=self.detector_threshold)

    @staticmethod
    def _refuse(options: dict[str, object], needed: str) -> None:
        for name, value in options.items():
            if value is not None:
                raise PosecovError(f"{name} needs {needed}")
