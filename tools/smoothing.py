"""What smoothing gains: an estimator's poses, the One-Euro filter, the live filter and the smoother on films with known truth.

    python tools/smoothing.py [--seconds S] [--error-time S] [--degrees-of-freedom NU] [--fit] [--json OUT]
    python tools/smoothing.py --real FILM... [--model MODEL] [--cache DIR] [--json OUT]

A figure walks, waves and turns at 30 frames a second; its joints are estimated with errors that have a joint covariance, last
for a while, are now and then gross or of the other side, and for half a second in every two grow tenfold where a patch covers
a forearm or a lower leg (`posecov.tracking.synthetic`). The One-Euro filter is shown with its authors' settings and with those
that suit other films of the same kind best. Jitter is the acceleration of the error, lag is in frames, NIS is the share of
frames whose innovation lies in its 95 % band. OUT holds every figure. Exit code 2 and one line where something is wrong.

With --real the same is measured on films, on the person who is there the longest, with the offline smoother on the untouched
film in the place of the truth; forearms and lower legs are painted over for 0.4 s in every 0.8 (`posecov.tracking.films`). It
also says how long the model's errors last, and how the filters do on the figure with errors as the films' poses state them.
Each film is estimated once and kept in DIR, by model.
"""

import dataclasses
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from posecov import PosecovError, PoseEstimator
from posecov.evaluation.tables import Table
from posecov.output import write_json
from posecov.tracking.comparison import Figures, compare, kalman, one_euro, raw, smoother, tune_one_euro
from posecov.tracking.films import autocorrelation, measure, whitened_errors
from posecov.tracking.fitting import fit_motion
from posecov.tracking.motion import MotionModel
from posecov.tracking.synthetic import MOTIONS, Errors, make_film

LAGS = (1 / 30, 0.1, 0.2, 0.3, 0.5)
"""Seconds after which errors are compared with themselves."""


@dataclass(frozen=True)
class Options:
    """What smoothing gains."""

    seconds: float = 10.0
    """Length of every film."""
    films: int = 3
    """Of each motion, with errors of their own."""
    error_time: float = 0.1
    """Seconds in which the estimator's errors are forgotten."""
    believed_error_time: float | None = None
    """What the filters believe of it; the truth when not given."""
    degrees_of_freedom: float = 30.0
    """Of the law of the errors."""
    fit: bool = False
    """Fit the filters' model to another film of each motion, instead of taking the default."""
    acceleration: float = 1.2
    """What the filters believe of the figure's, person sizes / s^2."""
    seed: int = 1
    """Of the errors."""
    real: tuple[Path, ...] = ()
    """Films to measure on, in place of the figure."""
    model: str = "small"
    """A model that ships, or an .onnx file."""
    cache: Path = Path("out/smoothing")
    """Folder for the films' poses."""
    json: Path | None = None
    """Where to write the figures."""


def main() -> int:
    """Exit code 0 when the table was made."""
    options = tyro.cli(Options, description=__doc__)
    try:
        return run_real(options) if options.real else run(options)
    except PosecovError as error:
        print(f"smoothing: {error}", file=sys.stderr)
        return 2


def run(options: Options) -> int:
    """Print the tables, one a motion and one of all."""
    errors = Errors(lasting_s=options.error_time, degrees_of_freedom=options.degrees_of_freedom)
    believed = options.error_time if options.believed_error_time is None else options.believed_error_time
    report = {}
    for motion in MOTIONS:
        first = options.seed * 1000
        films = [make_film(motion, errors, seconds=options.seconds, seed=first + n) for n in range(options.films)]
        other = make_film(motion, errors, seconds=options.seconds, seed=first + 999)
        model = MotionModel(acceleration=options.acceleration, error_time_s=believed)
        if options.fit:
            model = fit_motion(other.poses, list(other.times_s), model)
        cutoff, beta = tune_one_euro([other])
        filters = {
            "as estimated": raw,
            "One-Euro": one_euro(),
            f"One-Euro, tuned ({cutoff:g} Hz, {beta:g})": one_euro(cutoff, beta),
            "Kalman, live": kalman(model),
            "smoother": smoother(model),
        }
        found = compare(films, filters)
        report[motion] = {name: plain(figures) for name, figures in found.items()}
        fitted = f"; fitted: {model.acceleration:.2g} sizes/s^2, {model.error_time_s:.2g} s" if options.fit else ""
        print(f"{motion}{fitted}\n\n{table(found).markdown()}")
    if options.json is not None:
        write_json(options.json, report)
    return 0


def run_real(options: Options) -> int:
    """Print what films say, one table a film and one of the figure with their errors."""
    estimator = PoseEstimator(options.model, threads=1)
    films = [measure(estimator, path, options.cache) for path in options.real]
    report: dict[str, Any] = {}
    fits = {film.name: fit_motion(film.poses, list(film.times_s)) for film in films}
    for film in films:
        fit, truth = fits[film.name], film.truth()
        lasting = autocorrelation(whitened_errors(film, truth), film.times_s, LAGS)
        plain_film, painted = film.film(), film.film(painted=True)
        cutoff, beta = tune_one_euro([other.film() for other in films if other is not film] or [plain_film])
        filters = {
            "as estimated": raw,
            "One-Euro": one_euro(),
            f"One-Euro, tuned ({cutoff:g} Hz, {beta:g})": one_euro(cutoff, beta),
            "Kalman, live": kalman(),
            "Kalman, live, fitted": kalman(fit),
            "smoother": smoother(),
        }
        seen, hidden = compare([plain_film], filters), compare([painted], filters)
        found = {name: dataclasses.replace(seen[name], hidden_error=hidden[name].hidden_error) for name in filters}
        report[film.name] = {
            "frames": len(film.times_s),
            "acceleration": fit.acceleration,
            "error_time_s": fit.error_time_s,
            "autocorrelation": dict(zip(map(str, LAGS), lasting.tolist(), strict=True)),
            "filters": {name: plain(figures) for name, figures in found.items()},
        }
        print(f"{film.name}: {len(film.times_s)} frames; fitted: {fit.acceleration:.2g} sizes/s^2, {fit.error_time_s:.2g} s")
        correlation = ", ".join(f"{lag:.2g} s: {value:.2f}" for lag, value in zip(LAGS, lasting, strict=True))
        print(f"correlation of errors with those after {correlation}\n\n{table(found).markdown()}")
    for motion in MOTIONS:
        made = [
            make_film(motion, Errors(lasting_s=fits[film.name].error_time_s), seconds=options.seconds, seed=n, like=film.poses)
            for n, film in enumerate(films)
        ]
        filters = {"as estimated": raw, "One-Euro": one_euro(), "Kalman, live": kalman(), "smoother": smoother()}
        found = compare(made, filters)
        report[motion] = {name: plain(figures) for name, figures in found.items()}
        print(f"{motion}, with the films' errors\n\n{table(found).markdown()}")
    if options.json is not None:
        write_json(options.json, report)
    return 0


def plain(figures: Figures) -> dict[str, float | None]:
    """Figures for JSON, which knows no NaN."""
    return {name: None if math.isnan(value) else value for name, value in dataclasses.asdict(figures).items()}


def table(found: dict[str, Figures]) -> Table:
    """Figures beside those of the estimator's own poses, the first row."""
    first = next(iter(found.values()))
    rows = Table(["", "jitter, px/s^2", "less", "lag, frames", "error, px", "hidden, px", "NIS in band", "95 % covers"])
    for name, figures in found.items():
        shares = [f"{100 * share:.0f} %" if not math.isnan(share) else "" for share in (figures.nis_in_band, figures.coverage)]
        less = f"{100 * (1 - figures.jitter / first.jitter):.0f} %"
        lengths = [f"{figures.error:.1f}", f"{figures.hidden_error:.1f}"]
        rows.rows.append([name, f"{figures.jitter:.0f}", less, f"{figures.lag_frames:.2f}", *lengths, *shares])
    return rows


if __name__ == "__main__":
    sys.exit(main())
