"""Whatever versions our bounds allow, none is among those with a known advisory."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]

MENDED = {
    "av": ("18.0", "CVE-2026-8461 and CVE-2026-40962: films that write beyond FFmpeg's memory"),
    "h11": ("0.16", "CVE-2025-43859: requests that are smuggled in another's chunks"),
    "onnx": ("1.21", "CVE-2026-27489, CVE-2026-34446, CVE-2026-34447: external data from other folders"),
    "opencv-python": ("5.0.0.93", "CVE-2026-40962 in its FFmpeg, CVE-2025-53644: pictures"),
    "pillow": ("12.3", "CVE-2026-25990, CVE-2026-40192, PYSEC-2026-2253 to 2257: pictures"),
    "pytest": ("9.0.3", "CVE-2025-71176: other users' folders in /tmp"),
    "python-multipart": ("0.0.31", "CVE-2026-24486, CVE-2026-40347, CVE-2026-42561, CVE-2026-53538 to 53540: forms"),
    "pyyaml": ("5.4", "CVE-2020-14343: code from YAML"),
    "scipy": ("1.10", "CVE-2023-25399: memory that is lost"),
    "starlette": ("1.3.1", "CVE-2026-48710, CVE-2026-54282, CVE-2026-54283, CVE-2026-48818: hosts, forms, files"),
    "torch": ("2.13", "CVE-2026-24747: code from weights; CVE-2025-3000: torch.jit"),
}
"""By package: the first version that is mended, and what it mends."""


def ours():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(line) for lines in lists for line in lines if not line.startswith("posecov")]


@pytest.mark.parametrize("package", MENDED)
def test_no_version_with_a_known_advisory_is_allowed(package):
    found = [requirement for requirement in ours() if requirement.name.removesuffix("-headless") == package]
    assert found
    for requirement in found:
        lowest = [Version(bound.version) for bound in requirement.specifier if bound.operator in (">=", "==")]
        assert lowest, requirement
        assert max(lowest) >= Version(MENDED[package][0]), requirement


def test_every_package_has_a_lower_bound():
    loose = {requirement.name for requirement in ours() if not any(b.operator in (">=", "==") for b in requirement.specifier)}
    assert loose <= {"types-PyYAML"}
