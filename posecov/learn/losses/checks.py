"""Bad input, said in one line. Only the result is looked at in each step; arguments are searched once something is wrong."""

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor

from posecov.errors import PosecovError


class LossError(PosecovError):
    """Numbers that have no loss. A trainer may catch it to name the batch, or to drop the member that is at fault.

    Attributes:
        index: of the first sample at fault, one number per leading dimension.
    """

    def __init__(self, message: str, index: tuple[int, ...] = ()):
        super().__init__(message)
        self.index = index


# Negative eigenvalues up to this share of the matrix's norm are rounding: predictions are float32 products.
ROUNDING = 1e-5


def check(
    loss: Tensor,
    vectors: Mapping[str, Tensor] | None = None,
    matrices: Mapping[str, Tensor] | None = None,
    indefinite: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The loss itself, once it is known to be finite and its matrices to be definite. One synchronisation on a GPU.

    Args:
        loss: (...).
        vectors: by their names, (..., D), masked already.
        matrices: by their names, (..., D, R), masked already.
        indefinite: by the name of the argument, (...) bool or info of a factorisation: not 0 where it failed.

    Raises:
        LossError: names the argument and the first sample at fault.
    """
    fine = torch.isfinite(loss).all()
    for flags in (indefinite or {}).values():
        fine = fine & ~flags.any()
    if not fine:
        diagnose(loss, vectors or {}, matrices or {}, indefinite or {})
    return loss


def diagnose(
    loss: Tensor, vectors: Mapping[str, Tensor], matrices: Mapping[str, Tensor], indefinite: Mapping[str, Tensor]
) -> NoReturn:
    """Say which argument is at fault; see `check`."""
    for named, dimensions in ((vectors, 1), (matrices, 2)):
        for name, value in named.items():
            hint = "mask missing labels with rows" if name == "residual" else "the network or its input has gone wrong"
            _raise(~torch.isfinite(value).flatten(-dimensions).all(-1), f"{name}: not finite at labelled coordinates of", hint)
    if "variance" in vectors:
        _raise((vectors["variance"] <= 0).any(-1), "variance: not positive at", "add a floor")
    for name, flags in indefinite.items():
        _raise(flags != 0, f"{name}: not positive definite at", "add a floor to its diagonal")
    bad = ~torch.isfinite(loss)
    _raise(bad, "the loss is not finite, though its arguments are, at", "they are too large or too small")
    raise AssertionError("nothing is at fault")


def _raise(bad: Tensor, message: str, hint: str) -> None:
    if bad.any():
        index = tuple(torch.nonzero(bad)[0].tolist())
        sample = f"sample {index[0] if len(index) == 1 else index}" if index else "the only sample"
        raise LossError(f"{message} {sample}; {hint}", index)
