"""All losses by name, behind one signature, so that any trainer can take any of them from its configuration."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from torch import Tensor

from posecov.errors import PosecovError
from posecov.learn.losses import likelihood, transport


class Prediction(NamedTuple):
    """What a network says. Leading dimensions are arbitrary and broadcast against the target's.

    Attributes:
        mean: (..., D).
        covariance: (..., D, D), for the Student-t's the scatter; its diagonal is all that diagonal losses read.
        factor: (..., D, R) of the covariance, for "nll-precision" of the precision.
        log_weights: (..., K) of the exchanges, for "student-t-mixture".
        orders: (K, D) of the coordinates under each exchange, for "student-t-mixture".
    """

    mean: Tensor
    covariance: Tensor | None = None
    factor: Tensor | None = None
    log_weights: Tensor | None = None
    orders: Tensor | None = None


class Target(NamedTuple):
    """What it is compared with.

    Attributes:
        values: (..., D) labels; anything, also NaN, where there is none.
        rows: (..., D) bool, True where there is a label; None: everywhere.
        root: (..., D, D) symmetric root of the pseudo-label's covariance.
        own: for "kl", the share of the sample's own residual.
    """

    values: Tensor
    rows: Tensor | None = None
    root: Tensor | None = None
    own: float = 0.5


class LossFunction(Protocol):
    """Degrees of freedom are for the Student-t's, which need them; others ignore them. Returns (...), one per sample."""

    def __call__(self, prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor: ...


class Loss(NamedTuple):
    """A loss and what it asks of the network and of the data. Every loss here has the mean's part too.

    Attributes:
        function: of a prediction and a target.
        form: what the network must predict beside the mean: "none", "diagonal", "covariance" or "precision".
        pseudo: whether it needs `Target.root`.
    """

    function: LossFunction
    form: str
    pseudo: bool


def _mse(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return likelihood.mse(target.values - prediction.mean, target.rows)


def _nll(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return likelihood.nll(target.values - prediction.mean, _covariance(prediction), target.rows)


def _nll_precision(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return likelihood.nll_precision(target.values - prediction.mean, _factor(prediction), target.rows)


def _nll_diagonal(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return likelihood.nll_diagonal(target.values - prediction.mean, _variance(prediction), target.rows)


def _beta_nll(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return likelihood.beta_nll(target.values - prediction.mean, _variance(prediction), target.rows)


def _faithful(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return likelihood.faithful(target.values - prediction.mean, _covariance(prediction), target.rows)


def _student_t(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    nu = _given(degrees_of_freedom, "degrees_of_freedom", "student-t needs a tensor; without, take nll")
    return likelihood.student_t_nll(target.values - prediction.mean, _covariance(prediction), target.rows, nu)


def _student_t_mixture(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    nu = _given(degrees_of_freedom, "degrees_of_freedom", "student-t-mixture needs a tensor")
    hint = "student-t-mixture needs a network that weighs exchanges of left and right"
    weights, orders = (_given(getattr(prediction, name), f"prediction.{name}", hint) for name in ("log_weights", "orders"))
    return likelihood.student_t_mixture_nll(
        target.values, prediction.mean, _covariance(prediction), target.rows, nu, weights, orders
    )


def _kl(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    """Without the constant ln det P: pseudo-labels may be singular."""
    root = _root(target).double()
    residual = target.values - prediction.mean
    return likelihood.kl(residual, _covariance(prediction), root @ root.mT, target.rows, pseudo_log_det=False, own=target.own)


def _bound(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return _mse(prediction, target) + transport.wasserstein_bound(_factor(prediction), _root(target), target.rows)


def _symmetric(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return _mse(prediction, target) + transport.wasserstein_symmetric(_covariance(prediction), _root(target), target.rows)


def _procrustes(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return _mse(prediction, target) + transport.wasserstein_procrustes(_covariance(prediction), _root(target), target.rows)


def _wasserstein(prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None) -> Tensor:
    return _mse(prediction, target) + transport.wasserstein(_covariance(prediction), _root(target), target.rows)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "mse": Loss(_mse, "none", False),
        "nll": Loss(_nll, "covariance", False),
        "nll-precision": Loss(_nll_precision, "precision", False),
        "nll-diagonal": Loss(_nll_diagonal, "diagonal", False),
        "beta-nll": Loss(_beta_nll, "diagonal", False),
        "faithful": Loss(_faithful, "covariance", False),
        "student-t": Loss(_student_t, "covariance", False),
        "student-t-mixture": Loss(_student_t_mixture, "covariance", False),
        "kl": Loss(_kl, "covariance", True),
        "wasserstein-bound": Loss(_bound, "covariance", True),
        "wasserstein-symmetric": Loss(_symmetric, "covariance", True),
        "wasserstein-procrustes": Loss(_procrustes, "covariance", True),
        "wasserstein": Loss(_wasserstein, "covariance", True),
    }
)


def loss_named(name: str) -> Loss:
    """The loss of that name. Raises PosecovError, listing all names, when there is none."""
    if name not in LOSSES:
        raise PosecovError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}")
    return LOSSES[name]


def _given(value: Tensor | None, name: str, hint: str) -> Tensor:
    if value is None:
        raise PosecovError(f"{name}: missing; {hint}")
    return value


def _covariance(prediction: Prediction) -> Tensor:
    return _given(prediction.covariance, "prediction.covariance", "this loss needs a network that predicts one")


def _variance(prediction: Prediction) -> Tensor:
    return _covariance(prediction).diagonal(dim1=-2, dim2=-1)


def _factor(prediction: Prediction) -> Tensor:
    return _given(prediction.factor, "prediction.factor", "this loss needs a network that predicts one")


def _root(target: Target) -> Tensor:
    return _given(target.root, "target.root", "this loss needs pseudo-labels")
