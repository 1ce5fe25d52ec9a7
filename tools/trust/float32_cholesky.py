"""How small an eigenvalue of a correlation matrix a Cholesky factorisation in float32 survives: what `posecov.rounding` keeps.

    python tools/trust/float32_cholesky.py [--matrices 400] [--seed 0]

The smallest eigenvalue is given as a multiple of D 2^-24, D the number of coordinates. Exit code 1 when one fails at 2, the
multiple that poses keep at least.
"""

import sys
from dataclasses import dataclass

import numpy as np
import tyro

from posecov.rounding import least_eigenvalue

MULTIPLES = (0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Options:
    """Factorise correlation matrices in float32."""

    matrices: int = 400
    """Of each size and multiple."""
    seed: int = 0
    """Of the matrices."""


def main(options: Options) -> int:
    """Print a table; the exit code."""
    rng, kept = np.random.default_rng(options.seed), 0.0
    print("D    " + "".join(f"{multiple:>8g}" for multiple in MULTIPLES))
    for dimension in (2, 4, 10, 28, 34, 68):
        shares = []
        for multiple in MULTIPLES:
            smallest = multiple * dimension * 2.0**-24
            shares.append(np.mean([fails(rng, dimension, smallest, kind) for kind in range(options.matrices)]))
            if smallest >= least_eigenvalue(dimension):
                kept = max(kept, float(shares[-1]))
        print(f"{dimension:<5}" + "".join(f"{share:8.2%}" for share in shares))
    return 1 if kept else 0


def fails(rng: np.random.Generator, dimension: int, smallest: float, kind: int) -> bool:
    """Whether LAPACK finds no factor of one with this smallest eigenvalue; variances differ by up to 12 orders of magnitude."""
    factor = rng.standard_normal((dimension, (1, 2, max(dimension // 2, 1), dimension)[kind % 4]))
    if kind % 3 == 0:
        factor = np.sign(factor[:, :1]) + 1e-3 * factor
    matrix = factor @ factor.T
    matrix = matrix / np.sqrt(np.diagonal(matrix))[:, None] / np.sqrt(np.diagonal(matrix))
    # (1 - s) C + s I keeps the diagonal.
    least = np.linalg.eigvalsh(matrix)[0]
    share = (smallest - least) / (1 - least)
    matrix = (1 - share) * matrix + share * np.eye(dimension)
    sigma = 10 ** rng.uniform(-3, 3, dimension)
    try:
        np.linalg.cholesky((sigma[:, None] * matrix * sigma).astype(np.float32))
    except np.linalg.LinAlgError:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
