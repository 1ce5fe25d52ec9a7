import dataclasses

import numpy as np
import pytest
import torch

from posecov.geometry import crop_map
from posecov.learn.augment import AugmentConfig, ColourChange, crop_record, cut_off, generator, random_map
from posecov.learn.datasets import read_lspet
from posecov.learn.datasets.record import make_record
from posecov.learn.samples import CropDataset, Share, batches, epoch_order, training_batches
from posecov.skeleton import load_skeleton

SKELETON = load_skeleton("lsp14")
STILL = AugmentConfig(colour=0.0, occlude=0.0)


@pytest.fixture(scope="module")
def records(data_root):
    return read_lspet(data_root / "lspet")


def _colour_at(crop, point):
    x, y = np.round(point).astype(int)
    return crop[y, x].astype(int)


@pytest.mark.parametrize("mirror", [False, True])
def test_labels_follow_the_picture_and_sides_change_places(records, mirror):
    config = dataclasses.replace(STILL, flip=float(mirror), misplaced=0.0, shift=0.02)
    plain = CropDataset(records, SKELETON, 96, 1.3)[1]
    checked = 0
    for epoch in range(4):
        moved = CropDataset(records, SKELETON, 96, 1.3, config, epoch=epoch)[1]
        assert bool(moved.mirrored) == mirror
        for joint in range(14):
            source = SKELETON.flip_permutation[joint] if mirror else joint
            if (np.abs(moved.points[joint].numpy() - 47.5) < 44).all():
                here = _colour_at(moved.crops.numpy(), moved.points[joint].numpy())
                there = _colour_at(plain.crops.numpy(), plain.points[source].numpy())
                assert np.abs(here - there).max() < 70
                checked += 1
    assert checked > 30


def test_the_relative_map_takes_plain_points_to_augmented_ones(records):
    plain = CropDataset(records, SKELETON, 96, 1.1)[1]
    moved = CropDataset(records, SKELETON, 96, 1.1, AugmentConfig(), seed=5)[1]
    a, b = (s.points.double().numpy() for s in (plain, moved))
    a = a[SKELETON.flip_permutation] if moved.mirrored else a
    np.testing.assert_allclose((a - a[0]) @ moved.linear.double().numpy().T, b - b[0], atol=1e-3)


def test_samples_depend_on_seed_epoch_and_index_alone(records):
    def crop(seed, epoch, index):
        return CropDataset(records, SKELETON, 64, 1.1, AugmentConfig(), seed, epoch)[index].crops.numpy()

    np.testing.assert_array_equal(crop(1, 2, 3), crop(1, 2, 3))
    assert any((crop(1, 2, 3) != other).any() for other in (crop(2, 2, 3), crop(1, 3, 3)))
    worker = next(batches(CropDataset(records, SKELETON, 64, 1.1, AugmentConfig(), 1, 2), [3, 4], 2, workers=1))
    np.testing.assert_array_equal(worker.crops[0].numpy(), crop(1, 2, 3))


def test_missing_labels_stay_missing(records):
    record = records[0]
    similarity = crop_map(record.box, 64, 1.1)
    image = np.zeros((240, 160, 3), np.uint8)
    _, points, labelled = crop_record(image, record, similarity, 64, None)
    assert np.isfinite(points).all()
    assert labelled.sum() == 12
    _, _, swapped = crop_record(image, record, similarity, 64, SKELETON.flip_permutation)
    assert not swapped[[1, 2]].any()  # l_hip and l_knee had none: now r_hip and r_knee


def test_misplaced_crops_show_small_people():
    config = dataclasses.replace(STILL, misplaced=1.0)
    box = np.array([10.0, 20, 50, 80])
    plain = crop_map(box, 100).scale
    scales = [random_map(box, 100, 1.0, config, generator(0, 0, i))[0].scale / plain for i in range(200)]
    assert 0.44 < min(scales) < max(scales) < 0.81


def test_colour_change_leaves_its_input_alone():
    crop = np.full((32, 32, 3), 120, np.uint8)
    changed = ColourChange(AugmentConfig(colour=1.0, occlude=1.0))(crop, generator(0, 0, 0))
    assert (crop == 120).all()
    assert changed.dtype == np.uint8
    assert (changed != 120).any()


def test_order_repeats_blocks_and_changes_by_epoch():
    order = epoch_order([3, 4], [2, 1], seed=0, epoch=0)
    assert np.bincount(order).tolist() == [2, 2, 2, 1, 1, 1, 1]
    np.testing.assert_array_equal(order, epoch_order([3, 4], [2, 1], 0, 0))
    assert (order != epoch_order([3, 4], [2, 1], 0, 1)).any()


def test_skipped_batches_are_those_of_the_beginning(records):
    dataset = CropDataset(records, SKELETON, 32, 1.1)
    every = list(training_batches(dataset, np.arange, 4, range(10, 12), workers=0))
    rest = list(training_batches(dataset, np.arange, 4, range(10, 12), workers=0, skip=1))
    assert [b.index.tolist() for b in every][:4] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]
    assert [b.index.tolist() for b in rest] == [b.index.tolist() for b in every[1:]]


def test_batches_do_not_depend_on_workers_or_processes(records):
    dataset = CropDataset(records, SKELETON, 32, 1.1, AugmentConfig())

    def read(workers, share):
        return list(training_batches(dataset, lambda epoch: np.arange(7), 3, range(2), workers, share=share))

    alone, shares = read(1, Share()), [read(0, Share(rank, 2)) for rank in range(2)]
    assert [len(batch.crops) for batch in shares[1]] == [1, 1, 0] * 2
    for whole, *parts in zip(alone, *shares, strict=True):
        for name in ("crops", "points", "labelled", "linear", "mirrored", "index"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    # The second epoch shows the same people anew.
    assert not torch.equal(alone[0].crops, alone[3].crops)


def test_where_a_person_is_cut_off_the_picture_ends_and_the_box_with_it(record):
    image = np.zeros((200, 300, 3), np.uint8)
    image[np.round(record.keypoints[:, 1]).astype(int), np.round(record.keypoints[:, 0]).astype(int)] = np.arange(1, 15)[
        :, None
    ]
    config, shapes, ends = AugmentConfig(cut=1.0), set(), 0
    for index in range(60):
        rest, person = cut_off(image, record, config, generator(0, 0, index))
        shapes.add(rest.shape[:2])
        x, y = np.round(person.keypoints).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < rest.shape[1]) & (y < rest.shape[0])
        # Joints keep their pixels; those beyond the edge keep their labels.
        np.testing.assert_array_equal(rest[y[inside], x[inside], 0], np.arange(1, 15)[inside])
        assert person.labelled.all()
        if rest is image and person is record:
            continue
        low, high = person.box[:2], person.box[:2] + person.box[2:]
        within = ((person.keypoints >= low) & (person.keypoints <= high)).all(1)
        assert 6 <= within.sum() < 14
        assert (person.box[2:] < record.box[2:] + 1e-9).all()
        if rest is not image:
            ends += 1
            assert (low >= -1e-9).all()
            assert (high <= [rest.shape[1], rest.shape[0]]).all()
    assert len(shapes) > 4
    assert ends > 10


def test_nobody_is_cut_off_unless_asked_for(record):
    image = np.zeros((200, 300, 3), np.uint8)
    rng = generator(0, 0, 0)
    rest, person = cut_off(image, record, AugmentConfig(), rng)
    assert rest is image
    assert person is record
    # Nor does it take random numbers, so that the crops of older recipes stay what they were.
    assert rng.random() == generator(0, 0, 0).random()
    few = dataclasses.replace(record, labelled=np.arange(14) < 5)
    assert cut_off(image, few, AugmentConfig(cut=1.0), generator(0, 0, 1))[1] is few


@pytest.fixture
def record(tmp_path):
    rng = np.random.default_rng(3)
    points = np.stack([rng.permutation(np.linspace(110, 190, 14)), np.linspace(20, 180, 14)], axis=1).round()
    return make_record("someone", tmp_path / "none.png", points, np.ones(14, bool), np.zeros(14, bool))
