"""What commands say: results on stdout, trouble on stderr, each a line."""

import importlib.util
import sys


def say(line: str) -> None:
    """A line of result on stdout."""
    print(line, flush=True)


def complain(trouble: object) -> None:
    """A line of trouble on stderr."""
    print(f"posecov: {trouble}", file=sys.stderr, flush=True)


def needs_training_packages(command: str) -> None:
    """End a command of `tools/` with one line and exit code 2 where the packages of the extra `train` are not installed."""
    for package in ("torch", "timm", "onnx", "safetensors", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            print(f'{command}: {package} is not installed; run pip install -e ".[train]"', file=sys.stderr, flush=True)
            sys.exit(2)
