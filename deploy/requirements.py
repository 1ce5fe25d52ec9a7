"""What a container installs: posecov's requirements of `pyproject.toml` for a machine without screen.

    python deploy/requirements.py cpu|cuda pyproject.toml > requirements.txt

The one ONNX Runtime that is asked for takes the place of those that pyproject.toml chooses between: the build for GPUs is many
times as large as the one for CPUs, and cannot use a GPU without NVIDIA's libraries, which here come from PyPI too. OpenCV is
the build without windows, whose libraries a slim image does not have.
"""

import re
import sys
import tomllib
from pathlib import Path

RUNTIMES = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu[cuda,cudnn]"}


def requirements(kind: str, project: dict) -> list[str]:
    """Requirements for "cpu" or "cuda" of a pyproject.toml that is read already."""
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["serve"]]
    found, runtime = [], ""
    for line in wanted:
        name, rest = re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", line).groups()
        if name.startswith("onnxruntime"):
            runtime = RUNTIMES[kind] + rest.partition(";")[0].strip()
        else:
            found.append(("opencv-python-headless" if name == "opencv-python" else name) + rest)
    return [*found, runtime]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1], tomllib.loads(Path(sys.argv[2]).read_text()))))
