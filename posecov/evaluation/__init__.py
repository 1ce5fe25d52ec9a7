"""The evaluation of a model on labelled people: figures beside two rivals (`rivals`), tables, and a report one can read.

`evaluate` makes the figures, ready for JSON; everything else shows them.
"""

from posecov.evaluation.figures import evaluate
from posecov.evaluation.page import check_plotting, write_report
from posecov.evaluation.pictures import Shown
from posecov.evaluation.rivals import RIVALS, constant_correlation_rival, constant_covariance_rival, fit_student_t
from posecov.evaluation.tables import markdown
from posecov.evaluation.uncertainty import LEVELS, MASSES

__all__ = [
    "LEVELS",
    "MASSES",
    "RIVALS",
    "Shown",
    "check_plotting",
    "constant_correlation_rival",
    "constant_covariance_rival",
    "evaluate",
    "fit_student_t",
    "markdown",
    "write_report",
]
