"""Export a trained checkpoint to ONNX, after checking on real crops that ONNX Runtime agrees with torch.

    python tools/export_onnx.py CHECKPOINT OUT.onnx [--data-root DIR]

The crops are validation people of the run when the data is at hand, else crops of scikit-image's photos. Refuses to write a
model that disagrees. Exit code 2 when nothing was written.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


@dataclass(frozen=True)
class Options:
    """Export a trained checkpoint to ONNX.

    Attributes:
        checkpoint: of a trained run, ``best.safetensors`` or the one that tools/calibrate.py wrote.
        out: the .onnx file to write.
        data_root: folder with one folder per data set; POSECOV_DATA when not given.
        crops: how many crops to compare.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    data_root: str = ""
    crops: int = 100


def main() -> int:
    """Run the command line."""
    needs_training_packages("export_onnx")
    from posecov.learn.export import export, load_model
    from posecov.learn.parity_crops import parity_crops

    options = tyro.cli(Options, prog="tools/export_onnx.py")
    try:
        model, config, facts = load_model(options.checkpoint)
        crops, source = parity_crops(config, options.data_root, options.crops)
        measured = export(model, config, crops, options.out, facts.get("description", {"calibrated": False}))
    except PosecovError as error:
        print(f"export_onnx: {error}", file=sys.stderr)
        return 2
    if facts["part"] != "calibrated":
        print("export_onnx: this model is not calibrated; tools/calibrate.py does that", file=sys.stderr)
    print(
        f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; parity on {measured.crops} crops of {source}, batches of 1 "
        f"and 7: keypoints {measured.keypoints:.1e} px, covariance {measured.covariance:.1e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
