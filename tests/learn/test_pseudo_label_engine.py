import dataclasses
import json

import cv2
import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.config import PseudoLabelConfig
from posecov.learn.pseudo_labels import (
    Recipe,
    engine,
    find_neighbours,
    fit_whitening,
    paper_recipe,
    pseudo_covariances,
    pseudo_label_roots,
    roots,
    stream_pseudo_labels,
    whiten,
)
from posecov.learn.pseudo_labels.diagnose import diagnose
from posecov.learn.pseudo_labels.plot import neighbours_plot, spread_correlations, spread_plot
from posecov.learn.pseudo_labels.rowfile import RowFile

OURS = Recipe(k=30, dimensions=3, effective=0.7, centred=True, shrinkage=0.1)


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1300, 5)).astype(np.float32)
    values = np.exp(features[:, :1]) * rng.normal(size=(1300, 4))
    values[rng.random(values.shape) < 0.2] = np.nan
    return features, values


def _picture(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_streamed_is_the_same_as_in_memory(tables, tmp_path):
    features, values = tables
    made = stream_pseudo_labels(tmp_path / "labels", features, values, OURS)
    config = PseudoLabelConfig(source="targets", neighbours=30, dimensions=3, effective=0.7, shrinkage=0.1, towards="diagonal")
    np.testing.assert_allclose(made.open("roots"), pseudo_label_roots(features, values, config, 0), atol=2e-3, rtol=1e-3)
    np.testing.assert_allclose(made.open("weight").sum(axis=1), 1, atol=1e-5)
    assert made.open("index").shape == (1300, 30)
    assert made.facts["recall"] == 1.0
    effective = 1 / np.square(made.open("weight")).sum(axis=1)
    assert made.facts["effective_median"] == pytest.approx(np.median(effective), rel=1e-4)
    assert made.facts["effective_p10"] == pytest.approx(np.percentile(effective, 10), rel=1e-4)
    assert effective.mean() == pytest.approx(0.7 * 30, rel=1e-3)
    assert not (tmp_path / "labels.part").exists()


def test_stopped_run_goes_on_and_a_finished_one_is_kept(tables, tmp_path, monkeypatch):
    features, values = tables
    whole = stream_pseudo_labels(tmp_path / "whole", features, values, OURS).open("roots")
    counted, real = [], engine._roots

    def stops(*arguments):
        counted.append(len(arguments[1]))
        if len(counted) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(engine, "_roots", stops)
    folder = tmp_path / "labels"
    with pytest.raises(KeyboardInterrupt):
        stream_pseudo_labels(folder, features, values, OURS)
    assert not folder.exists()
    with pytest.raises(ValueError):
        np.load(tmp_path / "labels.part" / "roots.npy", mmap_mode="r")
    made = stream_pseudo_labels(folder, features, values, OURS)
    assert counted[0] + sum(counted[2:]) == 1300
    np.testing.assert_array_equal(made.open("roots"), whole)
    done = len(counted)
    stream_pseudo_labels(folder, features, values, OURS)
    assert len(counted) == done
    stream_pseudo_labels(folder, features, np.nan_to_num(values), OURS)
    assert sum(counted[done:]) == 1300


def test_a_folder_of_something_else_is_left_alone(tables, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PosecovError, match="something else"):
        stream_pseudo_labels(tmp_path, *tables, OURS)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for text in ("{}", "[1]", '"key"', "{"):
        (tmp_path / "facts.json").write_text(text)
        with pytest.raises(PosecovError, match="something else"):
            stream_pseudo_labels(tmp_path, *tables, OURS)


def test_held_out_queries_take_training_rows_only(tables, tmp_path):
    features, values = tables
    made = stream_pseudo_labels(tmp_path / "labels", features[:1000], values[:1000], OURS, features[1000:])
    map_ = fit_whitening(features[:1000], 3)
    found = find_neighbours(map_.apply(features[:1000]), 30, 0.7, map_.apply(features[1000:]))
    np.testing.assert_array_equal(made.open("index"), found.index)
    expected = roots(pseudo_covariances(values[:1000], found, True, 0.1))
    np.testing.assert_allclose(made.open("roots"), expected, atol=1e-3, rtol=1e-3)


def test_as_many_neighbours_as_rows_are_for_others_only(tables, tmp_path):
    features, values = tables[0][:20], np.nan_to_num(tables[1][:20])
    everyone = dataclasses.replace(OURS, k=20)
    with pytest.raises(PosecovError, match="20 neighbours asked for among 20 people"):
        stream_pseudo_labels(tmp_path / "own", features, values, everyone)
    made = stream_pseudo_labels(tmp_path / "others", features, values, everyone, queries=features[:3] + 0.1)
    np.testing.assert_array_equal(np.sort(made.open("index"), axis=1), np.tile(np.arange(20), (3, 1)))
    own = stream_pseudo_labels(tmp_path / "plain", features, values, paper_recipe(20)).open("index")
    np.testing.assert_array_equal(own[:, 0], np.arange(20))


def test_tables_of_other_numbers_shapes_or_types_are_others():
    table = np.arange(24.0).reshape(6, 4)
    first, last = table.copy(), table.copy()
    first[0, 0], last[-1, -1] = 7, 7
    told = [engine._digest(each) for each in (table, first, last, table.reshape(4, 6), table.view(np.int64))]
    assert len(set(told)) == 5
    assert engine._digest(table.copy()) == told[0]


def test_paper_recipe_is_algorithm_1(tables):
    features, values = tables[0][:60, :2], np.nan_to_num(tables[1][:60])
    config = PseudoLabelConfig(recipe="paper", source="targets", neighbours=60)
    found = pseudo_label_roots(features, values, config, 0)
    inverse = np.linalg.inv(np.cov(features.T))
    difference = features[11] - features
    weight = np.exp(-np.einsum("ni,ij,nj->n", difference, inverse, difference))
    weight /= weight.sum()
    centred = values - weight @ values
    np.testing.assert_allclose(found[11] @ found[11], (weight[:, None] * centred).T @ centred, rtol=1e-3, atol=1e-4)
    assert paper_recipe(5).effective is None
    with pytest.raises(PosecovError, match="recipe"):
        pseudo_label_roots(features, values, PseudoLabelConfig(recipe="mine"), 0)


def test_shrinkage_towards_everybody(tables):
    features, values = tables[0], tables[1].copy()
    values[:, 1] += values[:, 0]  # NaN where either is missing
    both = ~np.isnan(values[:, :2]).any(axis=1)
    expected = np.mean(values[both, 0] * values[both, 1])
    expected /= np.sqrt(np.nanmean(np.square(values[:, 0])) * np.nanmean(np.square(values[:, 1])))
    found = {}
    for towards in ("pooled", "diagonal"):
        config = PseudoLabelConfig(neighbours=40, dimensions=3, shrinkage=1.0, towards=towards)
        root = pseudo_label_roots(features, values, config, 0).astype(np.float64)
        found[towards] = root @ root
    sigma = np.sqrt(np.einsum("ndd->nd", found["pooled"]))
    np.testing.assert_allclose(found["pooled"][:, 0, 1] / (sigma[:, 0] * sigma[:, 1]), expected, rtol=1e-3)
    np.testing.assert_allclose(found["diagonal"][:, 0, 1], 0, atol=1e-4)
    np.testing.assert_allclose(np.square(sigma), np.einsum("ndd->nd", found["diagonal"]), rtol=1e-3)
    near = find_neighbours(whiten(features, 3), 40, 0.8)
    shrunk = pseudo_covariances(values, near, False, 1.0, pooled=True)
    np.testing.assert_allclose(shrunk, found["pooled"], rtol=1e-3, atol=1e-4)


def test_values_that_make_no_sense(tables, caplog):
    features, values = tables
    config = PseudoLabelConfig(neighbours=20, dimensions=3)
    infinite, nobody, alone = values.copy(), values.copy(), values.copy()
    infinite[5, 2] = np.inf
    nobody[:, 3] = np.nan
    alone[9] = np.nan
    for wrong, message in ((infinite, "values, row 5"), (nobody, "column 3"), (values[:-1], "1299 rows")):
        with pytest.raises(PosecovError, match=message):
            pseudo_label_roots(features, wrong, config, 0)
    assert np.isfinite(pseudo_label_roots(features, alone, config, 0)).all()
    few = pseudo_label_roots(features[:10], values[:10], config, 0)
    assert np.isfinite(few).all()
    assert "taking 9" in caplog.text
    with pytest.raises(PosecovError, match="single sample"):
        pseudo_label_roots(features[:1], values[:1], config, 0)


def test_unlabelled_people_count_for_nothing_as_neighbours():
    rng = np.random.default_rng(0)
    points = np.zeros((40, 1))
    points[:, 0] = np.arange(40)
    values = rng.normal(size=(40, 2))
    values[::2] = np.nan
    found = find_neighbours(points, 20, 0.9)
    covariance = pseudo_covariances(values, found, False, 0.0)
    row, weight = found.index[20], found.weight[20]
    labelled = row % 2 == 1
    taken = values[row[labelled]]
    expected = (weight[labelled, None] * taken).T @ taken / weight[labelled].sum()
    np.testing.assert_allclose(covariance[20], expected, rtol=1e-6)


def test_row_file_keeps_whole_rows(tmp_path):
    path = tmp_path / "rows.npy"
    with RowFile(path, (5, 3), np.float32) as file:
        file.append(np.arange(6).reshape(2, 3))
    with path.open("ab") as file:
        file.write(b"half")
    with RowFile(path, (5, 3), np.float32) as file:
        assert file.rows == 2
        file.append(np.ones((3, 3)))
    np.testing.assert_array_equal(np.load(path)[:3], [[0, 1, 2], [3, 4, 5], [1, 1, 1]])
    with RowFile(path, (6, 3), np.float32) as file:
        assert file.rows == 0


def test_spread_tells_meaning_from_noise():
    rng = np.random.default_rng(0)
    sigma = np.exp(rng.normal(size=(400, 1, 1)))
    residuals = sigma[:, 0] * rng.normal(size=(400, 6))
    residuals[3] = np.nan
    real = np.square(sigma) * np.eye(6)
    assert spread_correlations(real, residuals)["spearman_person"] > 0.8
    assert spread_correlations(real, residuals)["spearman_joint"] > 0.6
    assert abs(spread_correlations(rng.permutation(real), residuals)["spearman_person"]) < 0.15
    assert _picture(spread_plot(real, residuals)).shape == (500, 1100, 3)
    with pytest.raises(PosecovError, match="fewer than three"):
        spread_correlations(real[:2], residuals[:2])


def test_neighbours_side_by_side():
    crops = np.zeros((2, 16, 16, 3), np.uint8)
    crops[..., 0] = 255  # blue
    picture = _picture(neighbours_plot(crops, np.stack([crops] * 3, axis=1), np.full((2, 3), 1 / 3), ["a", "b"]))
    assert (picture == [255, 0, 0]).all(axis=2).mean() > 0.3


def test_diagnosis_of_a_run(tiny_run, data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("POSECOV_DATA", str(tmp_path / "nowhere"))  # the argument counts
    report = diagnose(tiny_run.folder, tmp_path, str(data_root), queries=2)
    assert report["validation_people"] == 60
    assert json.loads((tmp_path / "pseudo_labels.json").read_text())["k"] == 20
    for name in ("pseudo_labels.png", "neighbours.png"):
        assert _picture((tmp_path / name).read_bytes()) is not None
    assert diagnose(tiny_run.folder, tmp_path, str(data_root), space="input", queries=1)["features"] == "input"
    few = diagnose(tiny_run.folder, tmp_path, str(data_root), limit=30, queries=1)
    assert (few["training_people"], few["validation_people"]) == (30, 30)
    with pytest.raises(PosecovError, match="queries 0"):
        diagnose(tiny_run.folder, tmp_path, str(data_root), queries=0)
    with pytest.raises(PosecovError, match="no features 'sound'"):
        diagnose(tiny_run.folder, tmp_path, str(data_root), space="sound")
