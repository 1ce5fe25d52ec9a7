"""One training run's settings: frozen dataclasses, read from a YAML recipe and overridden on the command line."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from posecov.errors import PosecovError
from posecov.learn.augment import AugmentConfig
from posecov.learn.covariance_head import FORMS
from posecov.learn.losses import loss_named
from posecov.learn.model import ModelConfig
from posecov.learn.upgrades import RENAMED, upgraded_settings
from posecov.plain import is_file_name, read_yaml
from posecov.suggest import nearest

MEAN_HEADS = ("frozen", "trained", "fresh")
SPACES = ("latent", "backbone", "joints", "heatmaps", "input")
START_PARTS = ("mean", "backbone")
STARTS = ("constant", "isotropic")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class DataConfig:
    """Where the people come from.

    Attributes:
        root: folder that holds one folder per data set; the environment variable POSECOV_DATA when not given.
        datasets: in order, each ``lsp``, ``lspet``, ``mpii``, ``coco``, or one's own as a COCO JSON: ``FILE.json``, or
            ``FILE.json@FOLDER`` with the folder of its pictures. Joints are matched by name with the skeleton's.
        repeat: how often each data set's people are seen in an epoch; a single number holds for all.
        skip_bad: leave out annotations that are wrong and list them, instead of refusing to start; ``--skip-bad`` for short.
        validation_from: one of the data sets, whose people the validation part is carved from, the first when not given; or
            another one for validation alone, such as ``mpii-val``, ``coco-val`` or a COCO JSON. Its pictures are kept out of
            training.
        validation_count: random people of it. They train nothing; choices and calibration use them, which wants a few hundred.
        mean_share: of the training people that the mean learns from; the covariance then learns from the others, whose
            errors are those of new people. 1: both learn from all.
        limit: use at most this many training people (0: all), for trial runs.
    """

    root: str = ""
    datasets: tuple[str, ...] = ("lsp", "lspet")
    repeat: tuple[int, ...] = (1,)
    skip_bad: Annotated[bool, tyro.conf.arg(aliases=("--skip-bad",))] = False
    validation_from: str = ""
    validation_count: int = 500
    mean_share: float = 1.0
    limit: int = 0

    @property
    def repeats(self) -> tuple[int, ...]:
        """``repeat`` with a number for each data set."""
        return self.repeat * len(self.datasets) if len(self.repeat) == 1 else self.repeat

    @property
    def held_from(self) -> str:
        """Where the validation people come from: ``validation_from``, or the first data set."""
        return self.validation_from or self.datasets[0]


@dataclass(frozen=True)
class MeanConfig:
    """The first part: backbone and mean head.

    Attributes:
        epochs: passes over the training people.
        batch: people a step, over all processes.
        accumulate: parts that each process takes its share of a step in, one after the other, where the whole does not fit
            into memory. Losses are means over the whole step all the same. BatchNorm sees a part at a time, wherever that is:
            two processes learn what one process does with two parts.
        frozen_statistics: BatchNorm normalises with the statistics it has, instead of those of the part at hand, and keeps
            them: for very small parts. Steps then do not depend on the parts at all.
        precision: of the network below the heads: ``float32``, ``bfloat16``, or ``float16`` with a scaled loss. Weights, heads
            and losses stay float32.
        lr: peak learning rate (AdamW, linear warm-up, cosine decay).
        backbone_lr: factor on the backbone's rate.
        warmup: steps.
        weight_decay: of AdamW, on matrices only.
        heatmap_sigma: of the Gaussian target of the softmax, in cells.
        coordinate_weight: of |y - mu|_1 in cells, beside the cross entropy with that target.
        teacher: checkpoint of another run of the same skeleton, whose mean shows where joints are, beside labels that may be
            wrong or missing; none when not given.
        teacher_share: of its heatmaps in the loss; labels have the rest.
        ema: decay of the averaged weights that are validated and kept.
        clip: largest norm of the gradient.
    """

    epochs: int = 14
    batch: int = 32
    accumulate: int = 1
    frozen_statistics: bool = False
    precision: str = "float32"
    lr: float = 2e-3
    backbone_lr: float = 0.5
    warmup: int = 300
    weight_decay: float = 0.02
    heatmap_sigma: float = 1.0
    coordinate_weight: float = 1.0
    teacher: str = ""
    teacher_share: float = 0.5
    ema: float = 0.998
    clip: float = 5.0


@dataclass(frozen=True)
class PseudoLabelConfig:
    """Covariance pseudo-labels from neighbours in feature space (ToSS, algorithm 1, with what it leaves open).

    Attributes:
        source: ``residuals`` of the trained mean, or ``targets`` as in the paper.
        features: where neighbours are near: the ``latent`` that steers the mean, the ``backbone``'s last level, the features
            under the ``joints``, the ``heatmaps`` (place, spread, peak and entropy of each joint's softmax: how sure the mean
            is), or the ``input``, the picture in grey at 16 x 16.
        recipe: ``ours``; or ``paper``: Mahalanobis distance over all dimensions, weights softmax(-d), everybody their own
            nearest neighbour, no correction of the bias, no shrinkage.
        neighbours: k.
        dimensions: of the whitened PCA of the features.
        effective: the temperature gives, on average, this fraction of k effective neighbours (1 / sum w^2).
        shrinkage: of each pseudo-covariance, whose variances stay.
        towards: ``pooled``, everybody's correlation; or ``diagonal``, none.
        shuffled: neighbours drawn at random, as a control.
    """

    source: str = "residuals"
    features: str = "heatmaps"
    recipe: str = "ours"
    neighbours: int = 200
    dimensions: int = 32
    effective: float = 0.8
    shrinkage: float = 0.6
    towards: str = "pooled"
    shuffled: bool = False


@dataclass(frozen=True)
class CovarianceConfig:
    """The second part: the covariance head, on cached features of the frozen mean.

    Attributes:
        views: augmented crops of each training person whose features are cached, beside the plain one.
        phase1_epochs: of phase 1. 0 leaves it out.
        phase1_loss: any of `posecov.learn.losses.LOSSES`; ours is the 2-Wasserstein distance to the pseudo-labels.
        phase2_epochs: of phase 2.
        phase2_loss: any of them; ours, ``student-t-mixture``, is the negative log-likelihood of a mixture of Student-t's over
            exchanges of left and right, whose weights are predicted too; ``student-t`` that of a single one.
        own_share: of a person's own error in the loss ``kl``, the pseudo-label having the rest: 0.5 is the papers' calibrated
            KL divergence, 1 the plain likelihood.
        mean_head: ``frozen``; or ``trained``: the mean head learns on from the same losses, on the frozen features below it; or
            ``fresh``: it does so from new weights.
        start: ``constant``: the head starts at the likeliest constant covariance; ``isotropic``: at a circle of its size.
        batch: people a step.
        lr: peak learning rate, warmed up again at the switch of phases.
        warmup: steps.
        weight_decay: of AdamW.
        correlation_decay: pull of the learned correlation towards the pooled one.
        deviation_decay: pull of the per-picture deviation towards zero.
        gradient_share: of the trace that k1 J J^T carries at the start; 0 leaves the term out.
        curvature_share: of the trace that the Hessian term carries at the start; 0 leaves the term out.
        degrees_of_freedom: of the Student-t's at the start of phase 2, which learns it. Other losses stay Gaussian.
        clip: largest norm of the gradient.
    """

    views: int = 2
    phase1_epochs: int = 5
    phase1_loss: str = "wasserstein-procrustes"
    phase2_epochs: int = 15
    phase2_loss: str = "student-t-mixture"
    own_share: float = 0.5
    mean_head: str = "frozen"
    start: str = "constant"
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.05
    correlation_decay: float = 1e-2
    deviation_decay: float = 1e-2
    gradient_share: float = 0.1
    curvature_share: float = 0.05
    degrees_of_freedom: float = 5.0
    clip: float = 5.0

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses of the phases that have epochs."""
        phases = ((self.phase1_loss, self.phase1_epochs), (self.phase2_loss, self.phase2_epochs))
        return tuple(loss for loss, epochs in phases if epochs)

    @property
    def law_degrees(self) -> float:
        """Degrees of freedom that the law starts at: inf, a Gaussian, unless a phase minimises a likelihood of Student-t's."""
        return self.degrees_of_freedom if set(self.losses) & {"student-t", "student-t-mixture"} else math.inf

    @property
    def mixture(self) -> bool:
        """Whether the law is a mixture over exchanges of left and right."""
        return "student-t-mixture" in self.losses


@dataclass(frozen=True)
class TrainConfig:
    """A recipe.

    Attributes:
        name: of the run and of the exported model.
        skeleton: shipped skeleton by name, or a YAML file.
        out: folder of the run; ``runs/NAME`` when not given.
        start_from: checkpoint of another run whose mean this one starts from, such as one at a smaller input size.
        start_part: what is taken from there: the whole ``mean``; or the ``backbone`` alone, also for a network with other heads
            or with more ``model.dropped_stages``.
        seed: of everything random.
        threads: CPU threads of torch; 0 leaves torch's default.
        workers: processes that read and crop pictures; samples do not depend on it.
        device: ``cpu``, ``cuda`` or ``auto``.
        checkpoint_minutes: time between checkpoints within an epoch.
    """

    name: str = "posecov-lsp14-small"
    skeleton: str = "lsp14"
    out: str = ""
    start_from: str = ""
    start_part: str = "mean"
    seed: int = 0
    threads: int = 0
    workers: int = 1
    device: str = "auto"
    checkpoint_minutes: float = 3.0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mean: MeanConfig = field(default_factory=MeanConfig)
    pseudo_labels: PseudoLabelConfig = field(default_factory=PseudoLabelConfig)
    covariance: CovarianceConfig = field(default_factory=CovarianceConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in YAML; infinity is written ``.inf`` there."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, fields: Any, source: str) -> "TrainConfig":
        """The inverse of `to_dict`. Raises PosecovError that names the source and the setting."""
        return _build(cls, fields, source, "")


def check(config: TrainConfig) -> None:
    """Refuse settings that would fail hours later. Raises PosecovError that names the first wrong one."""
    data, mean, pseudo, covariance = config.data, config.mean, config.pseudo_labels, config.covariance
    rules = [
        ("name", config.name, is_file_name(config.name), "a name that a folder can have"),
        ("seed", config.seed, config.seed >= 0, "not negative"),
        ("threads", config.threads, config.threads >= 0, "not negative"),
        ("workers", config.workers, config.workers >= 0, "not negative"),
        ("start_part", config.start_part, config.start_part in START_PARTS, " or ".join(START_PARTS)),
        ("data.datasets", data.datasets, len(set(data.datasets)) == len(data.datasets) > 0, "different data sets"),
        ("data.repeat", data.repeat, len(data.repeats) == len(data.datasets), "one number for each of data.datasets, or one"),
        ("data.repeat", data.repeat, min(data.repeat, default=1) >= 1, "at least 1"),
        ("data.validation_count", data.validation_count, data.validation_count >= 2, "at least 2"),
        ("data.mean_share", data.mean_share, 0 < data.mean_share <= 1, "above 0, up to 1"),
        ("data.limit", data.limit, data.limit >= 0, "not negative"),
        ("mean.epochs", mean.epochs, mean.epochs >= 1, "at least 1"),
        ("mean.batch", mean.batch, mean.batch >= 2, "at least 2"),
        ("mean.accumulate", mean.accumulate, 1 <= mean.accumulate <= mean.batch // 2, "at least 1, with two people a part"),
        ("mean.precision", mean.precision, mean.precision in PRECISIONS, " or ".join(PRECISIONS)),
        ("mean.lr", mean.lr, mean.lr > 0, "above 0"),
        ("mean.teacher_share", mean.teacher_share, 0 <= mean.teacher_share <= 1, "from 0 to 1"),
        ("mean.ema", mean.ema, 0 <= mean.ema < 1, "from 0 to below 1"),
        ("pseudo_labels.source", pseudo.source, pseudo.source in ("residuals", "targets"), "residuals or targets"),
        ("pseudo_labels.features", pseudo.features, pseudo.features in SPACES, " or ".join(SPACES)),
        ("pseudo_labels.recipe", pseudo.recipe, pseudo.recipe in ("ours", "paper"), "ours or paper"),
        ("pseudo_labels.neighbours", pseudo.neighbours, pseudo.neighbours >= 2, "at least 2"),
        ("pseudo_labels.dimensions", pseudo.dimensions, pseudo.dimensions >= 1, "at least 1"),
        ("pseudo_labels.effective", pseudo.effective, 0 < pseudo.effective < 1, "between 0 and 1"),
        ("pseudo_labels.towards", pseudo.towards, pseudo.towards in ("pooled", "diagonal"), "pooled or diagonal"),
        ("pseudo_labels.shrinkage", pseudo.shrinkage, 0 <= pseudo.shrinkage <= 1, "from 0 to 1"),
        ("covariance.views", covariance.views, covariance.views >= 0, "not negative"),
        ("covariance.batch", covariance.batch, covariance.batch >= 1, "at least 1"),
        ("covariance.lr", covariance.lr, covariance.lr > 0, "above 0"),
        ("covariance.own_share", covariance.own_share, 0 <= covariance.own_share <= 1, "from 0 to 1"),
        ("covariance.gradient_share", covariance.gradient_share, 0 <= covariance.gradient_share < 0.5, "from 0 to below 0.5"),
        (
            "covariance.curvature_share",
            covariance.curvature_share,
            0 <= covariance.curvature_share < 0.5,
            "from 0 to below 0.5",
        ),
        ("covariance.mean_head", covariance.mean_head, covariance.mean_head in MEAN_HEADS, " or ".join(MEAN_HEADS)),
        ("covariance.start", covariance.start, covariance.start in STARTS, " or ".join(STARTS)),
        ("model.dropped_stages", config.model.dropped_stages, config.model.dropped_stages >= 0, "not negative"),
        ("model.window", config.model.window, config.model.window >= 0, "not negative"),
        ("model.scatter", config.model.scatter, config.model.scatter in FORMS, " or ".join(FORMS)),
        ("covariance.degrees_of_freedom", covariance.degrees_of_freedom, covariance.degrees_of_freedom > 2, "above 2"),
    ]
    for name, value, fine, wanted in rules:
        if not fine:
            raise PosecovError(f"setting {name}: {value!r} must be {wanted}")
    _check_losses(config)


def _check_losses(config: TrainConfig) -> None:
    """Losses must exist and understand what the head predicts."""
    form, settings = config.model.scatter, config.covariance
    if settings.phase1_epochs < 0 or settings.phase2_epochs < 0:
        raise PosecovError("setting covariance.phase1_epochs, phase2_epochs: must not be negative")
    for setting, name in (("phase1_loss", settings.phase1_loss), ("phase2_loss", settings.phase2_loss)):
        try:
            loss = loss_named(name)
        except PosecovError as error:
            raise PosecovError(f"setting covariance.{setting}: {error}") from None
        if name not in settings.losses:
            continue
        if name.startswith("student-t") and math.isinf(settings.degrees_of_freedom):
            raise PosecovError(
                f"setting covariance.{setting}: {name} has finite degrees of freedom; the Gaussian's loss is nll"
            )
        if loss.form in ("diagonal", "precision") and form != loss.form:
            raise PosecovError(f"setting covariance.{setting}: {name} needs --model.scatter {loss.form}, not {form}")
        if loss.form == "covariance" and form == "precision":
            raise PosecovError(f"setting covariance.{setting}: {name} needs a covariance; --model.scatter is precision")
        if name == "wasserstein-bound" and form != "factor":
            raise PosecovError(
                f"setting covariance.{setting}: {name} compares symmetric roots: it needs --model.scatter factor"
            )
    if form in ("diagonal", "precision") and (settings.gradient_share or settings.curvature_share):
        raise PosecovError(
            f"--model.scatter {form} has no Taylor terms: set covariance.gradient_share and curvature_share to 0"
        )


def load_config(path: Path | str, of_a_run: bool = False) -> TrainConfig:
    """Read a recipe, or the settings that an earlier release may have left in a run's folder.

    Raises:
        PosecovError: the file is not one.
    """
    fields = read_yaml(Path(path), "configuration") or {}
    return TrainConfig.from_dict(upgraded_settings(fields) if of_a_run and isinstance(fields, dict) else fields, str(path))


def config_from_command_line(program: str, arguments: Sequence[str]) -> TrainConfig:
    """``CONFIG [--mean.epochs 3 ...]``: the recipe with its settings overridden.

    Raises:
        PosecovError: no recipe named, or an unreadable one. tyro exits with 2 on a wrong option.
    """
    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] in ("-h", "--help"):
            return tyro.cli(TrainConfig, prog=f"{program} CONFIG", args=["--help"])
        raise PosecovError(f"usage: {program} CONFIG.yaml [--mean.epochs 3 ...]; recipes are in configs/")
    return tyro.cli(TrainConfig, prog=f"{program} CONFIG", default=load_config(arguments[0]), args=list(arguments[1:]))


def _build(cls: Any, fields: Any, source: str, prefix: str) -> Any:
    if not isinstance(fields, dict):
        raise PosecovError(f"{source}: {prefix.rstrip('.') or 'the recipe'} must be a mapping of settings")
    known = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for key, value in fields.items():
        if key not in known:
            raise PosecovError(f"{source}: unknown setting {prefix}{key}; {_known(f'{prefix}{key}', prefix, known)}")
        default = known[key].default_factory() if known[key].default is dataclasses.MISSING else known[key].default  # type: ignore[misc, operator]
        if dataclasses.is_dataclass(default):
            values[key] = _build(type(default), value, source, f"{prefix}{key}.")
        else:
            values[key] = _typed(default, value, f"{source}: {prefix}{key}")
    return cls(**values)


def _known(key: str, prefix: str, siblings: Iterable[str]) -> str:
    """The setting that was probably meant: one with nearly this name at this place, or with this name at another."""
    if key in RENAMED:
        return f"it is called {RENAMED[key]} now"
    word = key.rsplit(".", 1)[-1]
    near = nearest(word, siblings, prefix)
    if not near:
        elsewhere = [path for path in _paths(TrainConfig) if path.rsplit(".", 1)[-1] == word]
        near = f"; did you mean {elsewhere[0]}?" if elsewhere else ""
    return near.removeprefix("; ") or f"there are {', '.join(siblings)}"


def _paths(cls: Any, prefix: str = "") -> list[str]:
    """Every setting by its full name."""
    paths = []
    for name, value in vars(cls()).items():
        paths += _paths(type(value), f"{prefix}{name}.") if dataclasses.is_dataclass(value) else [f"{prefix}{name}"]
    return paths


def _typed(default: Any, value: Any, where: str) -> Any:
    if isinstance(default, tuple) and isinstance(value, list):
        kind = type(default[0])
        if all(isinstance(item, kind) for item in value):
            return tuple(value)
    elif isinstance(default, float) and not isinstance(value, bool):
        # YAML reads 1e-3, without a point, as text.
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    elif type(value) is type(default):
        return value
    raise PosecovError(f"{where}: {value!r} is not a {type(default).__name__}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
