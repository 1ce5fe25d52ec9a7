"""Finding people with a detector from an .onnx file: `PersonDetector`, one adapter for the layouts that detectors come in.

The way of a picture: `preparation` (what the network is fed) -> the network -> `decoding` (its outputs as boxes and scores).
`layouts` says which of them belong together, and recognises them.
"""

from posecov.detectors.detector import PersonDetector
from posecov.detectors.layouts import LAYOUTS, Layout
from posecov.detectors.preparation import Preparation

__all__ = ["LAYOUTS", "Layout", "PersonDetector", "Preparation"]
