"""The evaluation of a model on labelled people: figures beside its rivals (`rivals`), tables, and a report one can read.

`evaluate` makes the figures, ready for JSON; everything else shows them.
"""

from posecov.evaluation.figures import evaluate
from posecov.evaluation.page import check_plotting, write_report
from posecov.evaluation.pictures import Shown
from posecov.evaluation.rivals import (
    MIXTURE_RIVALS,
    RIVALS,
    average_weights_rival,
    constant_correlation_rival,
    constant_covariance_rival,
    fit_mixture,
    fit_student_t,
    mixture_constant_correlation_rival,
)
from posecov.evaluation.tables import markdown
from posecov.evaluation.uncertainty import LEVELS, MASSES

__all__ = [
    "LEVELS",
    "MASSES",
    "MIXTURE_RIVALS",
    "RIVALS",
    "Shown",
    "average_weights_rival",
    "check_plotting",
    "constant_correlation_rival",
    "constant_covariance_rival",
    "evaluate",
    "fit_mixture",
    "fit_student_t",
    "markdown",
    "mixture_constant_correlation_rival",
    "write_report",
]
