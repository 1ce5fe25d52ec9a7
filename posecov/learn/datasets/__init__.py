"""Annotation files of several kinds to one record type. Points are 0-based pixels whatever the file says."""

from posecov.learn.datasets.catalogue import NAMED, read_datasets
from posecov.learn.datasets.coco import read_coco
from posecov.learn.datasets.lsp import read_lsp, read_lspet
from posecov.learn.datasets.mpii import read_mpii
from posecov.learn.datasets.problems import Problems
from posecov.learn.datasets.record import Reading, Record, onto_skeleton
from posecov.learn.datasets.split import pick, split_share, split_validation, without_pictures_of

__all__ = [
    "NAMED",
    "Problems",
    "Reading",
    "Record",
    "onto_skeleton",
    "pick",
    "read_coco",
    "read_datasets",
    "read_lsp",
    "read_lspet",
    "read_mpii",
    "split_share",
    "split_validation",
    "without_pictures_of",
]
