"""Numbers printed in the papers, to stand beside ours; those of the UCI tables are in `posecov.learn.experiments.uci_report`.

ToSS is arXiv 2502.10587, TIC-TAC is arXiv 2310.18953.
"""

from collections.abc import Mapping

DIMENSIONS = (4, 8, 12, 16, 20, 24, 28, 32)

# ToSS, table 1: a training step of networks of width D^2 + 2, by D as in `DIMENSIONS`.
STEP_MILLISECONDS: Mapping[str, tuple[float, ...]] = {
    "NLL:TIC": (56.6, 56.8, 59.3, 95.5, 197.6, 448.6, 943.8, 1961.1),
    "2-W": (5.1, 5.4, 4.5, 4.4, 4.3, 4.1, 4.9, 5.2),
    "2-W bound": (4.6, 4.8, 3.7, 3.7, 3.6, 3.6, 3.9, 4.7),
}
STEP_MEGABYTES: Mapping[str, tuple[float, ...]] = {
    "NLL:TIC": (11.7, 120.8, 523.0, 1544.0, 3626.0, 7334.0, 13313.0, 22398.0),
    "2-W bound": (3.5, 8.2, 17.1, 29.5, 54.5, 111.7, 201.5, 339.6),
}

# ToSS, figures of the pose experiment at epoch 45, read off the curves: ViTPose, 64 x 64 heatmap pixels, judged on the training
# images; MSE a coordinate, NLL over 28 dimensions. Learning rate -> method -> (MSE, NLL, TAC); None: not shown.
POSE_CURVES: Mapping[str, Mapping[str, tuple[float, float, float] | None]] = {
    "1e-2": {"NLL:TIC": (149, 111, 17.8), "2-W bound": (104, 304, 6.3), "hybrid": (104, 100, 5.7)},
    "1e-3": {"NLL:TIC": (142, 105.2, 5.85), "2-W bound": (76.7, 241, 5.95), "hybrid": (86.2, 91.8, 5.58)},
    "1e-4": {"NLL:TIC": (130, 650, 12.5), "2-W bound": None, "hybrid": (94.6, 100, 5.7)},
}
# TIC-TAC, ViTPose: (TAC, log-likelihood).
POSE_TIC_TAC: Mapping[str, tuple[float, float]] = {
    "MSE": (8.22, -973.7), "NLL diagonal": (12.95, -204.5), "NLL": (5.80, -91.6), "beta-NLL": (12.31, -4200.0),
    "Faithful": (5.93, -91.8), "NLL:TIC": (5.23, -80.3),
}  # fmt: skip
