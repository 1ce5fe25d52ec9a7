"""The full report on a model: keypoints, uncertainty, and the uncertainty figures of two rivals that a model has to beat.

The rivals keep the model's means and its family of laws (Student-t, or Gaussian if its degrees of freedom are infinite):

- **constant covariance**: one full scatter in units of the person's size, times that size squared. Its D (D + 1) / 2 numbers
  and its degrees of freedom are fitted by maximum likelihood.
- **constant correlation**: the model's own standard deviation of every coordinate around one matrix for everybody. The full
  scatter of the standardised residuals and the degrees of freedom are fitted by maximum likelihood. Its diagonal is free, so
  that this rival may also rescale each of the model's sigmas by one factor.

Both are fitted across folds of the evaluated people, by default two: those with an even index are judged with constants from
those with an odd one, and the other way round. They thus know the distribution that they are judged on, which the model does
not; no figure of the model is refitted. Against that, p fitted numbers cost about p / 2n nats on new people when n people fit
them: 0.4 for 28 coordinates and 500 people. More folds make that smaller.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from posecov import coordinates, law, metrics
from posecov.errors import PosecovError
from posecov.law import Law

MASSES = (0.5, 0.68, 0.9, 0.95)
RIVALS = ("constant_covariance", "constant_correlation")
_TITLES = {
    "model": "model",
    "constant_covariance": "constant covariance",
    "constant_correlation": "our sigmas, constant correlation",
}

log = logging.getLogger(__name__)


def fit_student_t(residuals: np.ndarray, degrees_of_freedom: float | None = None) -> tuple[np.ndarray, float]:
    """Maximum likelihood scatter and degrees of freedom of residuals about a mean of 0, by ECME.

    Each round weighs person n by (nu + d_n) / (nu + m_n), fills missing coordinates with their conditional mean and scatter,
    then maximises the likelihood over nu itself (Liu and Rubin 1995). Dividing by the sum of weights, not the count, has the
    same solution in fewer rounds (Kent, Tyler and Vardi 1994). For a Gaussian with all labels it is the second moment.

    Args:
        residuals: (N, D), NaN where a label is missing.
        degrees_of_freedom: None fits them, between 2.05 and 1000; a number, or `math.inf`, holds them.

    Returns:
        Scatter (D, D) and degrees of freedom.

    Raises:
        PosecovError: too few people for a full scatter, or a coordinate that is never labelled.
    """
    residuals = np.asarray(residuals, dtype=np.float64)
    labelled = ~np.isnan(residuals)
    count, dimension = residuals.shape
    if count <= dimension or not labelled.any(axis=0).all():
        raise PosecovError(f"{count} people are too few to fit {dimension} x {dimension} numbers, or a joint is never labelled")
    patterns, member = np.unique(labelled, axis=0, return_inverse=True)
    groups = [(pattern, residuals[member.reshape(-1) == index]) for index, pattern in enumerate(patterns)]
    scatter = np.diag(np.nanmean(np.square(residuals), axis=0))
    nu = 8.0 if degrees_of_freedom is None else degrees_of_freedom
    previous = math.inf
    for _ in range(500):
        scatter = _reweighted(groups, scatter, nu)
        distances = law.distances(residuals, scatter)
        if degrees_of_freedom is None:
            nu = _likeliest_degrees_of_freedom(distances)
        reached = float(law.negative_log_likelihood_at(*distances, nu).mean())
        if previous - reached < 1e-8:
            break
        previous = reached
    else:
        log.warning("the fit of a constant scatter has not settled after 500 rounds")
    return scatter, nu


def _reweighted(groups: list[tuple[np.ndarray, np.ndarray]], scatter: np.ndarray, nu: float) -> np.ndarray:
    """One round of `fit_student_t`. Groups are people with the same labels: which, and their residuals."""
    total, weight_sum = np.zeros_like(scatter), 0.0
    for labelled, residuals in groups:
        seen, missing = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        block = scatter[np.ix_(seen, seen)]
        squared = law.squared_mahalanobis(residuals[:, seen], block)
        # (nu + d) / (nu + m), written so that it is 1 for a Gaussian.
        weights = (1 + len(seen) / nu) / (1 + squared / nu)
        gain = np.linalg.solve(block, scatter[np.ix_(seen, missing)])
        filled = np.zeros_like(residuals)
        filled[:, seen], filled[:, missing] = residuals[:, seen], residuals[:, seen] @ gain
        total += filled.T @ (weights[:, None] * filled)
        total[np.ix_(missing, missing)] += len(residuals) * (
            scatter[np.ix_(missing, missing)] - scatter[np.ix_(missing, seen)] @ gain
        )
        weight_sum += weights.sum()
    return (total + total.T) / (2 * weight_sum)


def _likeliest_degrees_of_freedom(distances: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    from scipy.optimize import minimize_scalar

    def cost(log_nu: float) -> float:
        return float(law.negative_log_likelihood_at(*distances, math.exp(log_nu)).mean())

    return math.exp(minimize_scalar(cost, bounds=(math.log(2.05), math.log(1000)), method="bounded", options={"xatol": 1e-6}).x)


def constant_covariance_rival(people: Law, values: np.ndarray, sizes: np.ndarray, folds: int = 2) -> Law:
    """The people's law with one constant scatter in units of their size (N,), fitted across folds (see the module)."""
    return _across_folds(people, values, np.broadcast_to(sizes[:, None], people.mean.shape), folds)


def constant_correlation_rival(people: Law, values: np.ndarray, folds: int = 2) -> Law:
    """The people's law with their own sigmas around one constant matrix, fitted across folds (see the module)."""
    return _across_folds(people, values, np.sqrt(np.diagonal(people.covariance, axis1=-2, axis2=-1)), folds)


def _across_folds(people: Law, values: np.ndarray, units: np.ndarray, folds: int) -> Law:
    """Scatter U C U for U = diag(units (N, D)), C and the degrees of freedom from the people of the other folds."""
    if folds < 2:
        raise PosecovError(f"{folds} folds: there must be at least 2, or the rivals would be judged on what fitted them")
    standardised = (values - people.mean) / units
    held = math.inf if np.isinf(people.degrees_of_freedom).all() else None
    scatter, freedom = np.empty(people.scatter.shape), np.empty(len(values))
    member = np.arange(len(values)) % folds
    for fold in range(folds):
        constant, nu = fit_student_t(standardised[member != fold], held)
        own = units[member == fold]
        scatter[member == fold], freedom[member == fold] = own[:, :, None] * constant * own[:, None, :], nu
    return Law(people.mean, scatter, freedom)


def evaluate(
    means: np.ndarray,
    covariances: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    sizes: np.ndarray,
    torso: np.ndarray,
    degrees_of_freedom: float,
    joints: Sequence[str],
    *,
    scale: np.ndarray | float | None = None,
    folds: int = 2,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The report on a model.

    Args:
        means: (N, J, 2) keypoints, picture pixels.
        covariances: (N, D, D) second moments, pixels^2.
        truth: (N, J, 2) true keypoints; what stands at joints without a label does not matter.
        labelled: (N, J) bool.
        sizes: (N,) size of each person in pixels: the longer side of the box.
        torso: (N,) the unit of PCK in pixels; NaN leaves a person out of PCK and of the rank correlation in torsos.
        degrees_of_freedom: of the model's law, more than 2.
        joints: the J names.
        scale: (N,) or a number: pixels of some other frame per picture pixel, to report the NLL there too.
        folds: at least 2, across which the rivals' constants are fitted.
        resamples: of the bootstrap over people behind each interval.
        seed: of the bootstrap.

    Returns:
        Nested dictionaries of plain numbers, strings and lists, ready for strict JSON (no number: None). Under "laws" the
        figures of the model and the rivals, with "difference" = model minus rival and its paired 95 % bootstrap interval:
        NLL, TAC and sharpness are better below 0, rank correlation above. No rivals when there are fewer than 4 D people.
        Rank correlations are within joints, with sigma and error in torsos or in person sizes. Torsos come from the labels and
        shrink when seen end on, for sigma and error alike, which gives even a constant covariance some correlation.

    Raises:
        PosecovError: nobody has a label, a covariance is not positive definite, or there are fewer than 2 folds.
    """
    labelled = np.asarray(labelled, dtype=bool)
    kept = labelled.any(axis=1)
    if not kept.any():
        raise PosecovError("none of these people has a labelled joint")
    labelled, sizes = labelled[kept], np.asarray(sizes, dtype=np.float64)[kept]
    torso = _positive(np.asarray(torso, dtype=np.float64)[kept])
    frame = None if scale is None else np.broadcast_to(scale, kept.shape)[kept]
    means, truth, covariances = np.asarray(means)[kept], np.asarray(truth)[kept], np.asarray(covariances)[kept]
    values, errors = metrics.label_values(truth, labelled), metrics.keypoint_errors(means, truth, labelled)
    people = Law.from_covariance(coordinates.flatten(means), covariances, degrees_of_freedom)
    laws = {"model": people, **_rivals(people, values, sizes, folds)}

    per_joint, mean_pck = metrics.pck(errors, torso)
    figures = {name: _figures(one, values, errors, sizes, torso, frame) for name, one in laws.items()}
    for name in list(laws)[1:]:
        pair = (people, laws[name])
        figures[name]["difference"] = _differences(pair, values, errors, torso, resamples, seed)
    gaussians = Law(people.mean, people.covariance, math.inf)
    gaussian_laws = {"model": gaussians, **_rivals(gaussians, values, sizes, folds)}
    report = {
        "people": len(values),
        "labelled_joints": int(labelled.sum()),
        "degrees_of_freedom": degrees_of_freedom,
        "pck": {"threshold": 0.2, "unit": "torso", "mean": mean_pck, "per_joint": dict(zip(joints, per_joint, strict=True))},
        "mean_error": {"pixels": metrics.mean_error(errors), "person_sizes": metrics.mean_error(errors / sizes[:, None])},
        "coverage_band": {_percent(mass): metrics.binomial_band(len(values), mass) for mass in MASSES},
        "laws": figures,
        "gaussian_nll": {name: float(metrics.nll_per_person(one, values).mean()) for name, one in gaussian_laws.items()},
        "folds": folds,
        "bootstrap": {"resamples": resamples, "seed": seed, "confidence": 0.95},
    }
    return _plain(report)


def _rivals(people: Law, values: np.ndarray, sizes: np.ndarray, folds: int) -> dict[str, Law]:
    if len(values) < 4 * values.shape[1]:
        log.warning("%d people are too few to fit the rivals' constants; they are left out", len(values))
        return {}
    found = (constant_covariance_rival(people, values, sizes, folds), constant_correlation_rival(people, values, folds))
    return dict(zip(RIVALS, found, strict=True))


def _figures(
    people: Law, values: np.ndarray, errors: np.ndarray, sizes: np.ndarray, torso: np.ndarray, frame: np.ndarray | None
) -> dict[str, Any]:
    """The uncertainty figures of one law."""
    joint, single = people.mass(values), people.joint_masses(values)
    sigmas, torsos = law.joint_sigma(people.covariance), torso[:, None]
    hidden = metrics.tac_errors(people, values)
    nll = {
        "pixels": metrics.nll_per_person(people, values).mean(),
        "person_sizes": metrics.nll_per_person(people, values, 1 / sizes).mean(),
    }
    if frame is not None:
        nll["frame"] = metrics.nll_per_person(people, values, frame).mean()
    by_mass: dict[str, Callable[[float], Any]] = {
        "joint": lambda mass: metrics.coverage(joint, mass),
        "per_joint": lambda mass: np.nanmean(metrics.coverage_per_joint(single, mass)),
        "per_joint_deviation": lambda mass: np.nanmean(np.abs(metrics.coverage_per_joint(single, mass) - mass)),
        "by_sigma": lambda mass: metrics.coverage_by_sigma(single, sigmas / sizes[:, None], mass),
    }
    return {
        "nll": nll,
        "tac": {"pixels": np.nanmean(hidden), "person_sizes": np.nanmean(hidden / sizes[:, None])},
        "coverage": {name: {_percent(mass): share(mass) for mass in MASSES} for name, share in by_mass.items()},
        "sharpness": metrics.sharpness(people, values),
        "rank_correlation": {
            "torsos": metrics.rank_correlation(sigmas / torsos, errors / torsos),
            "person_sizes": metrics.rank_correlation(sigmas / sizes[:, None], errors / sizes[:, None]),
        },
        "degrees_of_freedom": np.unique(people.degrees_of_freedom),
    }


def _differences(
    pair: tuple[Law, Law], values: np.ndarray, errors: np.ndarray, torso: np.ndarray, resamples: int, seed: int
) -> dict[str, Any]:
    """Model minus rival with paired bootstrap intervals over people."""
    model, rival = pair
    nll = metrics.nll_per_person(model, values) - metrics.nll_per_person(rival, values)
    hidden = metrics.tac_errors(model, values) - metrics.tac_errors(rival, values)
    present = ~np.isnan(values)
    volume = law.log_volume(model.covariance, present) - law.log_volume(rival.covariance, present)
    terms = {
        "nll": (nll, np.ones(len(nll))),
        "tac": (np.nansum(hidden, axis=1), (~np.isnan(hidden)).sum(axis=1)),
        "sharpness": (volume, np.ones(len(volume))),
    }
    found = {}
    for name, (sums, counts) in terms.items():
        interval = metrics.bootstrap_interval(sums, counts, resamples, seed)
        found[name] = {"value": sums.sum() / counts.sum(), "interval": interval}
    relative = errors / torso[:, None]
    ours, theirs = (law.joint_sigma(one.covariance) / torso[:, None] for one in pair)

    def ranks(index: np.ndarray | slice) -> float:
        error = relative[index]
        return metrics.rank_correlation(ours[index], error) - metrics.rank_correlation(theirs[index], error)

    drawn = [ranks(index) for index in metrics.resampled_people(len(values), resamples, seed)]
    found["rank_correlation"] = {"value": ranks(slice(None)), "interval": metrics.percentile_interval(drawn)}
    return found


def _positive(lengths: np.ndarray) -> np.ndarray:
    return np.where(lengths > 0, lengths, np.nan)


def _percent(mass: float) -> str:
    return f"{100 * mass:.0f}"


def _plain(value: Any) -> Any:
    """Plain Python types; what is not a finite number becomes None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables, for the screen, a README or a model card."""
    laws = report["laws"]
    lines = [
        f"| {report['people']} people | " + " | ".join(_TITLES[name] for name in laws) + " |",
        "|---" * (len(laws) + 1) + "|",
    ]

    def row(title: str, pick: Callable[[dict[str, Any]], str]) -> None:
        lines.append(f"| {title} | " + " | ".join(pick(figures) for figures in laws.values()) + " |")

    def difference(key: str, digits: int) -> Callable[[dict[str, Any]], str]:
        def pick(figures: dict[str, Any]) -> str:
            if "difference" not in figures:
                return ""
            entry = figures["difference"][key]
            low, high = entry["interval"]
            return f"{entry['value']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"

        return pick

    row("NLL, nats per person, picture pixels", lambda f: _number(f["nll"]["pixels"]))
    row("NLL, lengths in person sizes", lambda f: _number(f["nll"]["person_sizes"]))
    if "frame" in laws["model"]["nll"]:
        row("NLL, lengths in crop pixels", lambda f: _number(f["nll"]["frame"]))
    row("NLL, model minus rival", difference("nll", 2))
    row("TAC, picture pixels", lambda f: _number(f["tac"]["pixels"]))
    row("TAC, model minus rival", difference("tac", 2))
    nominal = " / ".join(report["coverage_band"])
    row(f"coverage at {nominal} %, all joints together", lambda f: _shares(f["coverage"]["joint"]))
    row(f"coverage at {nominal} %, mean over joints", lambda f: _shares(f["coverage"]["per_joint"]))
    row("sharpness, mean log sigma, log pixels", lambda f: _number(f["sharpness"]))
    row("rank correlation of sigma and error, person sizes", lambda f: _number(f["rank_correlation"]["person_sizes"]))
    row("rank correlation of sigma and error, torsos", lambda f: _number(f["rank_correlation"]["torsos"]))
    row("rank correlation, torsos, model minus rival", difference("rank_correlation", 2))
    row("degrees of freedom", lambda f: " / ".join("inf" if v is None else f"{v:.1f}" for v in f["degrees_of_freedom"]))
    lines.append("| NLL as Gaussians | " + " | ".join(_number(report["gaussian_nll"].get(name)) for name in laws) + " |")

    pck = report["pck"]
    lines += ["", f"| joint | PCK@{pck['threshold']} of the {pck['unit']} |", "|---|---|"]
    lines += [f"| {name} | {_number(share, 3)} |" for name, share in pck["per_joint"].items()]
    lines += [f"| **all labelled joints** | **{_number(pck['mean'], 3)}** |"]
    error = report["mean_error"]
    lines += [
        "",
        f"Mean error {_number(error['pixels'])} picture pixels, {_number(100 * error['person_sizes'])} % of the person's size.",
    ]
    band = ", ".join(f"{low:.1%} to {high:.1%} at {mass} %" for mass, (low, high) in report["coverage_band"].items())
    lines += ["", f"A calibrated law covers {band} of this many people, 19 times of 20."]
    return "\n".join(lines) + "\n"


def _shares(by_mass: dict[str, float]) -> str:
    return " / ".join(_number(None if share is None else 100 * share, 0) for share in by_mass.values())


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
