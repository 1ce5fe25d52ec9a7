"""Records to batches of crops, in an order and with randomness that depend only on (seed, epoch, index)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from posecov.errors import PosecovError
from posecov.geometry import crop_map
from posecov.images import read_image
from posecov.learn.augment import AugmentConfig, ColourChange, crop_record, cut_off, generator, random_map
from posecov.learn.datasets import Record
from posecov.learn.processes import split_sizes
from posecov.learn.trouble import reader_gone
from posecov.skeleton import Skeleton


@dataclass(frozen=True)
class Batch:
    """N people.

    Attributes:
        crops: (N, S, S, 3) uint8 BGR.
        points: (N, J, 2) float32 crop pixels, 0 without a label.
        labelled: (N, J) bool.
        linear: (N, 2, 2) float32, the crop map's linear part relative to the plain crop of the same person.
        mirrored: (N,) bool.
        index: (N,) int64 into the records.
    """

    crops: Tensor
    points: Tensor
    labelled: Tensor
    linear: Tensor
    mirrored: Tensor
    index: Tensor


class CropDataset(Dataset):
    """Crops of records; ``augment=None`` gives the plain crop around each box.

    Args:
        records: people.
        skeleton: gives the flip permutation.
        size: side of the crop in pixels.
        padding: see `geometry.crop_map`.
        augment: how much crops may differ from the box, or None.
        seed: of the augmentation.
        epoch: of the augmentation.
    """

    def __init__(
        self,
        records: Sequence[Record],
        skeleton: Skeleton,
        size: int,
        padding: float,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        epoch: int = 0,
    ):
        self.records, self.size, self.padding = records, size, padding
        self.permutation = skeleton.flip_permutation
        self.augment, self.seed, self.epoch = augment, seed, epoch
        self.colour = ColourChange(augment) if augment else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Batch:
        """One person as a batch without its first axis. Raises PosecovError on an unreadable picture."""
        return self.sample(self.epoch, index)

    def sample(self, epoch: int, index: int) -> Batch:
        """The same, as another epoch sees it."""
        record = self.records[index]
        image = read_image(record.image)
        plain = crop_map(record.box, self.size, self.padding)
        similarity, mirror = plain, False
        if self.augment is not None:
            rng = generator(self.seed, epoch, index)
            image, record = cut_off(image, record, self.augment, rng)
            similarity, mirror = random_map(record.box, self.size, self.padding, self.augment, rng)
        permutation = self.permutation if mirror else None
        crop, points, labelled = crop_record(image, record, similarity, self.size, permutation)
        if self.colour is not None:
            crop = self.colour(crop, rng)
        linear = similarity.linear / plain.scale
        return Batch(
            torch.from_numpy(crop),
            torch.from_numpy(points),
            torch.from_numpy(labelled),
            torch.from_numpy(linear.astype(np.float32)),
            torch.tensor(mirror),
            torch.tensor(index),
        )

    def nobody(self) -> Batch:
        """A batch of no people."""
        joints, size = len(self.permutation), self.size
        crops = torch.zeros(0, size, size, 3, dtype=torch.uint8)
        labelled, mirrored = torch.zeros(0, joints, dtype=torch.bool), torch.zeros(0, dtype=torch.bool)
        index = torch.zeros(0, dtype=torch.int64)
        return Batch(crops, torch.zeros(0, joints, 2), labelled, torch.zeros(0, 2, 2), mirrored, index)


@dataclass(frozen=True)
class Share:
    """Which people of a step one of several processes has, and in which parts it takes them.

    A step is cut into ``count * accumulate`` parts, of which each process has as many that follow one another. What the parts
    are does not depend on how they are spread over processes.

    Attributes:
        rank: of the process.
        count: of the processes.
        accumulate: parts that each takes one after the other.
    """

    rank: int = 0
    count: int = 1
    accumulate: int = 1

    def sizes(self, people: int) -> list[int]:
        """Sizes of this process's parts of a step with so many people; some may be 0."""
        return split_sizes(people, self.count * self.accumulate)[self.rank * self.accumulate :][: self.accumulate]

    def of(self, people: Sequence[int]) -> Sequence[int]:
        """This process's people of a step."""
        start = sum(sum(Share(rank, self.count, self.accumulate).sizes(len(people))) for rank in range(self.rank))
        return people[start : start + sum(self.sizes(len(people)))]


def epoch_order(counts: Sequence[int], repeat: Sequence[int], seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch sees the records, each block of ``counts`` records ``repeat`` times."""
    starts = np.cumsum([0, *counts])
    blocks = [np.tile(np.arange(starts[i], starts[i + 1]), times) for i, times in enumerate(repeat)]
    return np.random.default_rng((seed, epoch, 2**31)).permutation(np.concatenate(blocks))


def batches(dataset: CropDataset, order: Sequence[int] | np.ndarray, size: int, workers: int = 1) -> Iterator[Batch]:
    """Batches of ``size`` people in the given order, the last one smaller.

    Raises:
        PosecovError: a picture cannot be read.
    """
    return _load(dataset, [[(dataset.epoch, i) for i in chunk] for chunk in _chunks(order, size)], workers)


def training_batches(
    dataset: CropDataset,
    order: Callable[[int], np.ndarray],
    size: int,
    epochs: range,
    workers: int = 1,
    skip: int = 0,
    share: Share = Share(),
) -> Iterator[Batch]:
    """One process's share of the batches of all epochs, one after the other: reading does not stop where an epoch ends.

    Args:
        order: of an epoch, see `epoch_order`.
        size: people a step, over all processes.
        epochs: numbers.
        skip: leave out so many steps of the first epoch.

    Raises:
        PosecovError: a picture cannot be read.
    """

    def keys() -> Iterator[list[tuple[int, int]]]:
        for epoch in epochs:
            for chunk in _chunks(order(epoch), size)[skip if epoch == epochs.start else 0 :]:
                yield [(epoch, index) for index in share.of(chunk)]

    return _load(dataset, _Keys(keys), workers)


def _chunks(order: Sequence[int] | np.ndarray, size: int) -> list[list[int]]:
    return [list(map(int, order[start : start + size])) for start in range(0, len(order), size)]


class _Keys:
    """Batches of keys, made while they are asked for."""

    def __init__(self, make: Callable[[], Iterator[list[tuple[int, int]]]]):
        self.make = make

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.make()


def _load(dataset: CropDataset, keys: Iterable[list[tuple[int, int]]], workers: int) -> Iterator[Batch]:
    # Ends OpenCV's threads, if it has had any: a forked worker, which has not, would wait for them for ever.
    cv2.setNumThreads(1)
    loader = DataLoader(
        _Guarded(dataset),
        batch_sampler=keys,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=partial(_collate, dataset),
        worker_init_fn=_one_thread,
    )
    try:
        for batch in loader:
            if isinstance(batch, PosecovError):
                raise batch
            yield batch
    except (ConnectionError, EOFError) as error:
        if str(error).startswith("Caught "):  # In a reader, which is alive.
            raise
        raise reader_gone("does not answer") from None  # It was killed a moment ago, and torch does not know yet.


class _Guarded(Dataset):
    """Hands an unreadable picture over as a value: raised in a worker process it would arrive as a traceback."""

    def __init__(self, dataset: CropDataset):
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Batch | PosecovError:
        try:
            return self.dataset.sample(*key)
        except PosecovError as error:
            return error


def _collate(dataset: CropDataset, samples: Sequence[Batch | PosecovError]) -> Batch | PosecovError:
    """Stack samples, or hand on the first error."""
    for sample in samples:
        if isinstance(sample, PosecovError):
            return sample
    if not samples:
        return dataset.nobody()
    batch = Batch(*(torch.stack([getattr(sample, name) for sample in samples]) for name in Batch.__dataclass_fields__))
    return batch if get_worker_info() is None else _shared(batch)


def _shared(batch: Batch) -> Batch | PosecovError:
    """The batch in the memory through which it leaves its process; where torch puts it there, a failure is lost."""
    try:
        for name in Batch.__dataclass_fields__:
            getattr(batch, name).share_memory_()
    except RuntimeError as error:
        return PosecovError(
            f"no shared memory for a batch of pictures ({str(error).splitlines()[0].rsplit(': ', 1)[-1]}); "
            "enlarge /dev/shm (docker run --shm-size=1g), or take --workers 0"
        )
    return batch


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
