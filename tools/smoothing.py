"""What smoothing gains: an estimator's poses, the One-Euro filter, the live filter and the smoother on films with known truth.

    python tools/smoothing.py [--seconds S] [--error-time S] [--degrees-of-freedom NU] [--fit] [--json OUT]

A figure walks, waves and turns at 30 frames a second; its joints are estimated with errors that have a joint covariance, last
for a while, are now and then gross or of the other side, and for half a second in every two grow tenfold where a patch covers
a forearm or a lower leg (`posecov.tracking.synthetic`). The One-Euro filter is shown with its authors' settings and with those
that suit other films of the same kind best. Jitter is the acceleration of the error, lag is in frames, NIS is the share of
frames whose innovation lies in its 95 % band. OUT holds every figure. Exit code 2 and one line where something is wrong.
"""

import dataclasses
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from posecov import PosecovError
from posecov.evaluation.tables import Table
from posecov.output import write_json
from posecov.tracking.comparison import Figures, compare, kalman, one_euro, raw, smoother, tune_one_euro
from posecov.tracking.fitting import fit_motion
from posecov.tracking.motion import MotionModel
from posecov.tracking.synthetic import MOTIONS, Errors, make_film


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
    seed: int = 1
    """Of the errors."""
    json: Path | None = None
    """Where to write the figures."""


def main() -> int:
    """Exit code 0 when the table was made."""
    options = tyro.cli(Options, description=__doc__)
    try:
        return run(options)
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
        model = MotionModel(error_time_s=believed)
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
