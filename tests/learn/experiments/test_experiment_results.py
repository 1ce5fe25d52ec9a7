"""The results page: tolerant of what is missing, and claims only what the CSV shows."""

import cv2
import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.experiments import results
from posecov.learn.experiments.cells import write_csv
from posecov.learn.experiments.results import ResultsOptions, write_page


def locking_rows(angle, arrival):
    common = {"optimizer": "sgd", "warmup": "0", "rate": "0.03", "diverged": "0"}
    return [
        common | {"loss": loss, "truth": truth, "smallest_angle": str(a), "arrival": "" if t is None else str(t)}
        for truth in ("tilted", "orthogonal")
        for loss, a, t in (("nll", angle, arrival), ("kl", angle, arrival), ("wasserstein-bound", 30, 50))
    ]


def test_what_was_not_run_is_said_to_be_missing(tmp_path):
    with pytest.raises(PosecovError, match="no experiment"):
        write_page(ResultsOptions(str(tmp_path), str(tmp_path / "page" / "README.md")))
    folder = tmp_path / "locking"
    folder.mkdir()
    (folder / "locking.md").write_text("| table |\n")
    write_csv(folder / "locking.csv", locking_rows(1.0, None))
    said = write_page(ResultsOptions(str(tmp_path), str(tmp_path / "page" / "README.md")))
    assert said.splitlines() == ["locking: found", *(f"{n}: missing" for n in ("univariate", "dimensions", "uci", "pose"))]
    page = (tmp_path / "page" / "README.md").read_text()
    assert page.count("Missing: it has not been run.") == 4
    assert "| table |" in page


@pytest.mark.parametrize(
    ("angle", "arrival", "agrees"), [(1.0, None, True), (1.0, 200, True), (20.0, None, False), (1.0, 60, False)]
)
def test_locking_is_claimed_only_where_measured(angle, arrival, agrees):
    text = results.locking(locking_rows(angle, arrival))
    assert text.count("NOT as in the paper") == (0 if agrees else 4)
    assert "never arrives" in text or arrival


def test_sigma_is_claimed_only_where_measured():
    def rows(bound):
        return [
            {"function": "constant", "method": m, "sigma_error": str(e), "nll": "2"}
            for m, e in (("NLL", 1.0), ("2-W bound", bound))
        ]

    assert "closer to the truth than NLL's" in results.univariate(rows(0.5))
    assert "NOT closer to" not in results.univariate(rows(0.5))
    assert "NOT closer to" in results.univariate(rows(1.5))
    clipped = {"function": "constant", "method": "NLL, clipped", "sigma_error": "0.7", "nll": "2"}
    assert "from 1.00 to 0.70, still above the bound's 0.50" in results.univariate([*rows(0.5), clipped])
    assert "below the bound's" in results.univariate([*rows(0.8), clipped])
    assert "no finite result" in results.univariate([{"function": "constant", "method": "NLL", "sigma_error": "", "nll": ""}])


def test_the_papers_order_of_methods_on_pose_is_claimed_only_where_measured():
    def rows(nll):
        found = {"NLL": (10.0, 5.0), "NLL-TIC": (nll, 4.0)}
        return [{"variant": name, "nll": str(n), "tac": str(t)} for name, (n, t) in found.items()]

    assert "NLL-TIC against NLL: NLL -1.00 nats, TAC -1.00 px: lower in both" in results.pose(rows(9.0))
    assert "NLL +1.00 nats, TAC -1.00 px: NOT lower in both" in results.pose(rows(11.0))
    assert "against" not in results.pose([])
    assert "| ToSS, learning rate 1e-3, hybrid | 86.2 | 91.8 | 5.58 |" in results.pose([])


def test_costs_stand_beside_the_published_ones():
    rows = [
        {"kind": "cost", "D": str(d), "method": m, "ms": str(ms * d**2), "mb": "1"}
        for d in (12, 32)
        for m, ms in (("NLL", 2.0), ("2-W bound", 1.0), ("NLL:TIC, exact", 4.0))
    ]
    text = results.dimensions(rows)
    assert "TIC over the bound at D = 32: published 417; ours 4.0 exact (2.0 x plain NLL)." in text
    assert "| NLL:TIC, published | 59.3 | 1961.1 |" in text
    assert "Absolute times do not compare" in text


def test_own_tables_are_taken_verbatim_below_the_pages_headings(tmp_path):
    folder = tmp_path / "uci"
    folder.mkdir()
    (folder / "uci.md").write_text("# Ten tables\n\nText # kept\n\n## More\n\n```\n# comment\n```\n")
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "uci.png"), noise)
    write_page(ResultsOptions(str(tmp_path), str(tmp_path / "page" / "README.md")))
    page = (tmp_path / "page" / "README.md").read_text()
    assert "\n### Ten tables\n\nText # kept\n\n#### More\n\n```\n# comment\n```\n" in page
    assert "![uci](figures/uci.png)" in page
    assert 0 < (tmp_path / "page" / "figures" / "uci.png").stat().st_size < 300_000


def test_a_picture_that_is_none_is_named(tmp_path):
    folder = tmp_path / "uci"
    folder.mkdir()
    (folder / "uci.md").write_text("x")
    (folder / "uci.png").write_bytes(b"no picture")
    with pytest.raises(PosecovError, match=r"uci\.png: not a picture"):
        write_page(ResultsOptions(str(tmp_path), str(tmp_path / "page" / "README.md")))


def test_a_csv_of_something_else_is_named(tmp_path):
    folder = tmp_path / "locking"
    folder.mkdir()
    (folder / "locking.md").write_text("x")
    (folder / "locking.csv").write_text("a,b\n1,2\n")
    with pytest.raises(PosecovError, match=r"locking\.csv: not what tools/experiments/locking\.py writes") as error:
        write_page(ResultsOptions(str(tmp_path), str(tmp_path / "page" / "README.md")))
    assert "\n" not in str(error.value)
