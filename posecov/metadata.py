"""What a model says about itself, stored inside its .onnx file so that no side file can disagree with it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from posecov.errors import PosecovError
from posecov.exchanges import Exchange, exchanges_from_plain, exchanges_to_plain
from posecov.plain import is_file_name, is_number
from posecov.skeleton import Skeleton

KEY = "posecov"
"""The key of the ONNX file's ``metadata_props`` that holds the JSON text."""

FORMAT = 2
"""Grows when an older posecov would read a file wrongly. Format 1 knew no exchanges; models without them are written as 1."""

LARGEST_INPUT = 4096
"""Pixels of a network's input at most, `posecov.detectors`' too: what a file says must not fill the memory."""

_REQUIRED = ("name", "skeleton", "input_size", "pixel_mean", "pixel_std", "padding", "degrees_of_freedom")
_FIELDS = {"format", *_REQUIRED, "exchanges", "description"}


@dataclass(frozen=True)
class ModelMetadata:
    """Everything needed to feed a model and to read what it returns.

    Attributes:
        name: what the model is called in results.
        skeleton: the joints, in the order of the outputs.
        input_size: side S of the square input in pixels.
        pixel_mean: mean of R, G, B on the scale 0..255; the input is (pixel - mean) / std.
        pixel_std: spread of R, G, B on the scale 0..255.
        padding: side of the crop over the longer side of the person's box, `geometry.crop_map`.
        degrees_of_freedom: of the Student-t law, above 2 so that its covariance exists; infinite for the Gaussian.
        exchanges: of left and right, when the law is a mixture over them (`exchanges`), in the order of the output ``weights``,
            the first one exchanging nothing. Empty for a single Student-t.
        description: free facts (training data, recipe, version); JSON values only.
    """

    name: str
    skeleton: Skeleton
    input_size: int
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    padding: float
    degrees_of_freedom: float
    exchanges: tuple[Exchange, ...] = ()
    description: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text that `from_json` reads. Raises PosecovError for values that it would refuse."""
        fields = {"format": FORMAT if self.exchanges else 1, **asdict(self), "skeleton": self.skeleton.to_dict()}
        fields["exchanges"] = exchanges_to_plain(self.exchanges)
        if math.isinf(self.degrees_of_freedom):
            fields["degrees_of_freedom"] = None  # JSON has no infinity.
        try:
            text = json.dumps(fields, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PosecovError(f"model {self.name}: its metadata cannot be written as JSON ({error})") from None
        self.from_json(text, f"model {self.name}")
        return text

    @classmethod
    def from_json(cls, text: str, source: str = "model") -> "ModelMetadata":
        """Read and check the text of `to_json`.

        Args:
            text: JSON.
            source: what to call it in errors, such as the file's path.

        Raises:
            PosecovError: one line that names ``source`` and the wrong field.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise PosecovError(f"{source}: its posecov metadata is not valid JSON; export the model again") from None
        if not isinstance(fields, Mapping):
            raise PosecovError(f"{source}: its posecov metadata is not a JSON object; export the model again")

        def wrong(what: str) -> NoReturn:
            raise PosecovError(f"{source}: in its posecov metadata {what}")

        version = fields.get("format")
        if version not in range(1, FORMAT + 1) or isinstance(version, bool):
            wrong(f"the format is {version!r} and this posecov reads 1 to {FORMAT}; a newer posecov is needed")
        for key in _REQUIRED:
            if key not in fields:
                wrong(f"{key!r} is missing; export the model again")
        unknown = sorted(set(fields) - _FIELDS)
        if unknown:
            wrong(f"the field {unknown[0]!r} is unknown; a newer posecov is needed")

        def numbers(key: str, *, positive: bool) -> tuple[float, float, float]:
            values = fields[key]
            if not isinstance(values, list) or len(values) != 3 or not all(is_number(v) for v in values):
                wrong(f"{key!r} must be three numbers, one for each of R, G, B")
            if positive and min(values) <= 0:
                wrong(f"{key!r} must be positive")
            return float(values[0]), float(values[1]), float(values[2])

        name, size, padding, freedom = (fields[k] for k in ("name", "input_size", "padding", "degrees_of_freedom"))
        if not isinstance(name, str) or not name:
            wrong("'name' must be a text")
        if not is_file_name(name):
            wrong(f"'name' is {name!r}, which no file can be called; export the model again")
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_INPUT:
            wrong(f"'input_size' must be a whole number of pixels from 1 to {LARGEST_INPUT}")
        if not is_number(padding) or padding <= 0:
            wrong("'padding' must be a positive number")
        if freedom is not None and (not is_number(freedom) or freedom <= 2):
            wrong("'degrees_of_freedom' must be above 2, or null for the Gaussian")
        description = fields.get("description", {})
        if not isinstance(description, dict):
            wrong("'description' must be an object")
        skeleton = Skeleton.from_dict(fields["skeleton"], source=source)
        return cls(
            name=name,
            skeleton=skeleton,
            input_size=size,
            pixel_mean=numbers("pixel_mean", positive=False),
            pixel_std=numbers("pixel_std", positive=True),
            padding=float(padding),
            degrees_of_freedom=math.inf if freedom is None else float(freedom),
            exchanges=exchanges_from_plain(
                fields.get("exchanges", []), len(skeleton), f"{source}: in its posecov metadata 'exchanges'"
            ),
            description=description,
        )
