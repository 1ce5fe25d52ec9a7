"""A checkpoint to one self-contained ONNX file, checked against torch before it is written."""

import io
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from posecov import law
from posecov.coordinates import unflatten
from posecov.doctor import drawn_crops, reference_of
from posecov.errors import PosecovError
from posecov.exchanges import exchanges_of
from posecov.files import write_atomic
from posecov.learn.backbone import normalisation
from posecov.learn.build import build_model
from posecov.learn.checkpoint import load_checkpoint, part
from posecov.learn.config import TrainConfig
from posecov.learn.covariance_training import law_degrees
from posecov.learn.model import PoseModel, normalise
from posecov.metadata import KEY, ModelMetadata
from posecov.model import PoseModel as OnnxModel
from posecov.rounding import least_eigenvalue
from posecov.skeleton import load_skeleton

KEYPOINT_TOLERANCE = 1e-3  # crop pixels
COVARIANCE_TOLERANCE = 1e-3  # |dS_ij| / sqrt(S_ii S_jj)
WEIGHT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """Largest differences between the ONNX file and torch.

    Attributes:
        crops: how many were compared, in batches of 1 and of 7.
        keypoints: crop pixels.
        covariance: |dS_ij| / sqrt(S_ii S_jj), of the covariance and of the scatter where there is one.
        weights: of the exchanges; 0 where the law has none.
    """

    crops: int
    keypoints: float
    covariance: float
    weights: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether all lie within their tolerances. Not so for NaN."""
        return (
            self.keypoints <= KEYPOINT_TOLERANCE
            and self.covariance <= COVARIANCE_TOLERANCE
            and self.weights <= WEIGHT_TOLERANCE
        )


class Exported(nn.Module):
    """The network as it is deployed: normalised crops in, keypoints and calibrated second moments out."""

    kept: Tensor

    def __init__(self, model: PoseModel, degrees_of_freedom: float):
        super().__init__()
        self.model = model
        self.spread = law.covariance_from_scatter(np.eye(1), degrees_of_freedom).item()
        exchange = model.covariance_head.exchange
        self.orders = None if exchange is None else exchange.orders
        # Correlations of a mixture's second moments shrink by a few millionths: exchanges far apart beside small scatters are
        # more than float32 can hold otherwise.
        size = 2 * model.joints
        kept = torch.full((size, size), 1 - 4 * least_eigenvalue(size)).fill_diagonal_(1.0)
        self.register_buffer("kept", kept, persistent=False)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` returns."""
        return ["keypoints", "covariance"] + ([] if self.orders is None else ["scatter", "weights"])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (N, 3, S, S) to keypoints (N, J, 2) and covariance (N, 2J, 2J), crop pixels.

        Where the law is a mixture over exchanges the covariance is its second moment about the keypoints, and the components'
        scatter (N, 2J, 2J) and weights (N, K) follow.
        """
        mean, predicted = self.model(image)
        scatter = predicted.scatter
        if self.orders is None:
            return unflatten(mean), scatter * self.spread
        weights = predicted.log_weights.exp()
        second = torch.zeros_like(scatter)
        for k, order in enumerate(self.orders):
            moved = scatter.index_select(1, order).index_select(2, order) * self.spread
            apart = mean.index_select(1, order) - mean
            second = second + weights[:, k, None, None] * (moved + apart.unsqueeze(2) * apart.unsqueeze(1))
        return unflatten(mean), second * self.kept, scatter, weights


def load_model(path: Path | str) -> tuple[PoseModel, TrainConfig, dict]:
    """A trained model with its configuration and the facts of its checkpoint.

    Raises:
        PosecovError: not a checkpoint of a trained model.
    """
    tensors, facts = load_checkpoint(Path(path))
    if facts.get("part") not in ("covariance", "calibrated"):
        raise PosecovError(f"{path}: holds no trained covariance; export the run's best.safetensors")
    config = TrainConfig.from_dict(facts.get("config"), str(path))
    model = build_model(config, load_skeleton(config.skeleton))
    try:
        model.load_state_dict(part("model", tensors))
    except RuntimeError as error:
        raise PosecovError(f"{path}: its weights do not fit its own configuration ({str(error).splitlines()[0]})") from None
    return model.eval(), config, facts


def degrees_of_freedom(model: PoseModel, config: TrainConfig) -> float:
    """Of the law that the model was trained and calibrated under; inf for a Gaussian."""
    return law_degrees(model.covariance_head, config.covariance)


def to_onnx(model: PoseModel, config: TrainConfig, description: dict) -> bytes:
    """The bytes of an ONNX file with its metadata inside."""
    if config.model.scatter == "precision":
        raise PosecovError(f"{config.name}: predicts a precision, and ONNX has no inverse; train with another --model.scatter")
    nu = degrees_of_freedom(model, config)
    mean, std = normalisation(config.model.backbone)
    skeleton, size = load_skeleton(config.skeleton), config.model.input_size
    exported = Exported(model, nu).eval().to("cpu").to(memory_format=torch.contiguous_format)
    # What `posecov doctor` compares with, wherever the file will be opened.
    with torch.inference_mode():
        keypoints, covariance = exported(normalise(torch.from_numpy(drawn_crops(size)[:1]), mean, std))[:2]
    reference = reference_of(keypoints[0].double().numpy(), covariance[0].double().numpy())
    metadata = ModelMetadata(
        name=config.name,
        skeleton=skeleton,
        input_size=size,
        pixel_mean=mean,
        pixel_std=std,
        padding=config.model.padding,
        degrees_of_freedom=nu,
        exchanges=exchanges_of(skeleton) if config.covariance.mixture else (),
        description={**description, "reference": reference},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            exported,
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=4096)}},
            input_names=["image"],
            output_names=exported.outputs,
            verbose=False,
        )
    proto = program.model_proto  # type: ignore[union-attr]
    del proto.metadata_props[:]
    # The exporter notes its source lines on every node: half of a small file, and paths of the machine it ran on.
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in proto.graph.value_info:
        del value.metadata_props[:]
    for value in [*proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        del value.metadata_props[:]
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_json()
    onnx.checker.check_model(proto)
    buffer = io.BytesIO()
    onnx.save_model(proto, buffer)
    return buffer.getvalue()


def export(model: PoseModel, config: TrainConfig, crops: np.ndarray, out: Path, description: dict) -> Parity:
    """Write the ONNX file if, and only if, it agrees with torch on real crops.

    Args:
        crops: (N, S, S, 3) uint8 BGR.

    Raises:
        PosecovError: they disagree, or the file cannot be written; what was there stays.
    """
    payload = to_onnx(model, config, description)
    if not out.parent.is_dir():
        raise PosecovError(f"{out.parent}: no such folder; make it first")
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / out.name
        candidate.write_bytes(payload)
        # On the CPU: a GPU's shortened float32 would be held against the file.
        measured = parity(model, config, OnnxModel(candidate, providers=["CPUExecutionProvider"]), crops)
    if not measured.agrees:
        raise PosecovError(
            f"{out}: not written, since ONNX Runtime and torch disagree by {measured.keypoints:.2g} px in keypoints and "
            f"{measured.covariance:.2g} in covariance and {measured.weights:.2g} in weights (allowed: "
            f"{KEYPOINT_TOLERANCE:g}, {COVARIANCE_TOLERANCE:g}, {WEIGHT_TOLERANCE:g})"
        )
    write_atomic(out, payload)
    return measured


def parity(model: PoseModel, config: TrainConfig, deployed: OnnxModel, crops: np.ndarray) -> Parity:
    """Largest differences over all crops, run one by one and in batches of 7."""
    reference = Exported(model.eval(), degrees_of_freedom(model, config))
    pixel = normalisation(config.model.backbone)
    with torch.inference_mode():
        outputs = [reference(normalise(torch.from_numpy(crops[i : i + 16]), *pixel)) for i in range(0, len(crops), 16)]
    expected = {name: torch.cat(parts).double().numpy() for name, *parts in zip(reference.outputs, *outputs, strict=True)}
    worst = dict.fromkeys(("keypoints", "covariance", "weights"), 0.0)
    for batch in (1, 7):
        for name, found in deployed.outputs(crops, batch=batch).items():
            difference, kind = np.abs(found - expected[name]), name
            if name in ("covariance", "scatter"):
                sigma, kind = np.sqrt(np.einsum("ndd->nd", expected[name])), "covariance"
                difference = difference / (sigma[:, :, None] * sigma[:, None, :])
            # Not Python's max: a NaN must stay one.
            worst[kind] = float(np.maximum(worst[kind], difference.max()))
    return Parity(len(crops), **worst)
