"""The files of one film: what is written while it is being done, and what becomes of it.

While a film is being done its files are ``NAME.part.jsonl`` and ``NAME.part.mp4``; both can be read at any moment, and stay
when the run is stopped, however it is stopped. Once the film is done they become ``NAME.jsonl`` and ``NAME.mp4``, and the
tables that were asked for are made of the results. So a file without ``.part`` is whole, and an earlier one is replaced only
by a whole one.

A run that is resumed keeps the results and goes on after their last line. The film is drawn anew, from the poses in the
results: that needs no inference, and no seam in the middle of a film. A film that is smoothed offline is done like that always:
first all results, as measured; then, once they are smoothed, the film and tables of them (`run.run_film`).
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from posecov.errors import PosecovError
from posecov.files import reason
from posecov.video.frames import Frame, Seen
from posecov.video.plots import PLOTS
from posecov.video.reading import UNFINISHED
from posecov.video.results import FrameResult, Header, ResultsWriter, read_results
from posecov.video.tables import TABLES
from posecov.video.writing import FilmWriter, finish_film

MADE = {**TABLES, **PLOTS}
"""Ending and writer of what is made of the results of a whole film."""

_SAME_TIME = 1e-6  # Seconds.


class Recording:
    """Writes a film and its results.

    Attributes:
        stored: frames that an earlier run has done.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        save: Sequence[str],
        header: Header,
        time_base: Fraction,
        rate: Fraction,
        *,
        resume: bool = False,
        threads: int | None = None,
    ):
        """Open the files.

        Args:
            folder: that exists.
            stem: name of the files without ending.
            save: ``film``, ``jsonl``, and names of `MADE`.
            header: of the results.
            time_base: seconds of a tick of the frames.
            rate: frames per second on average.
            resume: go on with what an earlier run left.
            threads: of the encoder.

        Raises:
            PosecovError: a file cannot be written, or what an earlier run left is of another film or model.
        """
        self._target, self._save = folder / stem, tuple(save)
        if resume:
            self._take_up_finished()
        self._results = ResultsWriter(self._part("jsonl"), header, resume)
        self.stored = self._results.count
        self._earlier: Iterator[FrameResult] = read_results(self._results.path)[1] if self.stored else iter(())
        try:
            self._film = FilmWriter(self._part("mp4"), time_base, rate, threads) if self.draws else None
        except BaseException:
            self._results.close()
            raise

    @property
    def draws(self) -> bool:
        """Whether a film is wanted."""
        return "film" in self._save

    @property
    def parts(self) -> list[Path]:
        """The files as they are called until the film is done."""
        return [self._part("jsonl"), *([self._part("mp4")] if self.draws else [])]

    def earlier(self, frame: Frame) -> FrameResult | None:
        """What an earlier run found in this frame, asked in order; None from the first frame on that it has not done.

        Raises:
            PosecovError: the results are damaged, or of other frames.
        """
        if frame.index >= self.stored:
            return None
        found = next(self._earlier, None)
        if found is None or abs(found.time - frame.time) > _SAME_TIME:
            raise PosecovError(f"{self._results.path}: its frames are not those of this film; leave --resume out to begin anew")
        return found

    def write(self, seen: Seen) -> Seen:
        """Add a frame, and give it on. Raises PosecovError when the disk is full."""
        if seen.frame.index >= self._results.count:
            self._results.write(FrameResult(seen.frame.index, seen.frame.time, seen.people, seen.frame.damaged))
        if self._film is not None and seen.canvas is not None:
            self._film.write(seen.canvas, seen.frame.ticks)
        return seen

    def stop(self) -> None:
        """Close the files and leave them under the names of `parts`. Raises PosecovError when the disk is full."""
        self._let_go()
        if self._film is not None:
            self._film.close()

    def abandon(self) -> None:
        """As `stop`, whatever happens: after an error that has been said already."""
        self._let_go()
        if self._film is not None:
            self._film.abandon()

    def finish(self, radius: float | None = None) -> list[Path]:
        """Close the files, make the tables, and give the files their names.

        Args:
            radius: of the tables' probabilities in pixels (`tables.radius_of`).

        Returns:
            What was made. The results come last, so that until then the whole can be repeated by resuming.

        Raises:
            PosecovError: something could not be written; what is there stays.
        """
        self.stop()
        made: list[Path] = []
        results = self._part("jsonl")
        if self.draws:
            made.append(self._with_ending(".mp4"))
            finish_film(self._part("mp4"), made[-1])
        for kind in (kind for kind in MADE if kind in self._save):
            ending, write = MADE[kind]
            made.append(self._with_ending(ending))
            write(results, made[-1], radius)
        if "jsonl" not in self._save:
            with contextlib.suppress(OSError):
                results.unlink()
            return made
        made.append(self._with_ending(".jsonl"))
        try:
            results.replace(made[-1])
        except OSError as error:
            raise PosecovError(f"{made[-1]}: cannot be written ({reason(error)}); the results are {results}") from None
        return made

    def _let_go(self) -> None:
        self._results.close()
        self._earlier = iter(())  # It holds the file open, which on Windows cannot be renamed then.

    def _take_up_finished(self) -> None:
        """Whole results of an earlier run are as good as unfinished ones: a film or a table of them needs no inference."""
        part, whole = self._part("jsonl"), self._with_ending(".jsonl")
        if not part.exists() and whole.exists():
            try:
                shutil.copyfile(whole, part)
            except OSError as error:
                raise PosecovError(f"{part}: cannot be written ({reason(error)}); give another --out") from None

    def _part(self, ending: str) -> Path:
        return part_of(self._target, ending)

    def _with_ending(self, ending: str) -> Path:
        return named(self._target, ending)


def smoothed_already(folder: Path, stem: str, header: Header) -> bool:
    """Whether an earlier run has come so far that a film's results are whole and smoothed as this header says."""
    target = folder / stem
    path = part_of(target, "jsonl")
    path = path if path.exists() else named(target, ".jsonl")
    try:
        return path.exists() and read_results(path)[0] == header
    except PosecovError:
        return False


def part_of(target: Path, ending: str) -> Path:
    """The file, without a dot before its ending, as it is called until its film is done."""
    return named(target, f"{UNFINISHED}.{ending}")


def named(target: Path, ending: str) -> Path:
    """A path with something more at its end; `Path.with_suffix` would cut a name with a dot."""
    return target.with_name(target.name + ending)


def finished_files(folder: Path, stem: str, save: Sequence[str]) -> list[Path]:
    """The files of a film that an earlier run has done, or none when it has not done all of them."""
    endings = {"film": ".mp4", "jsonl": ".jsonl", **{kind: ending for kind, (ending, _) in MADE.items()}}
    files = [folder / f"{stem}{endings[kind]}" for kind in dict.fromkeys(save)]
    begun = (folder / f"{stem}{UNFINISHED}.jsonl").exists()
    return [] if begun or not all(file.exists() for file in files) else files
