"""The offline smoother on a film's results: every pose given what comes before and after it.

A film is smoothed in blocks, each with some seconds more on either side, so that memory does not grow with its length. What
lies further away than that has no say: velocities and errors are forgotten within a second.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from posecov.errors import PosecovError
from posecov.files import reason, temporary_name
from posecov.tracking.motion import MotionModel
from posecov.tracking.smoother import smooth
from posecov.video.frames import Followed
from posecov.video.people import BRIDGE
from posecov.video.results import FrameResult, ResultsWriter, read_results

BLOCK = 600
"""Frames smoothed at a time; each takes some 0.2 MB a person meanwhile."""

MARGIN_S = 2.0
"""Seconds of film that are looked at on either side of a block."""


def smooth_results(path: Path, model: MotionModel | None = None, advance: Callable[[], None] | None = None) -> None:
    """Smooth the results of a whole film, in place: until all is written the file stays as it was.

    Args:
        path: JSON Lines.
        model: of motion and errors.
        advance: called after every frame.

    Raises:
        PosecovError: they cannot be read, or not be written.
    """
    header, frames = read_results(path)
    temporary = path.with_name(temporary_name())
    try:
        writer = ResultsWriter(temporary, header | {"smooth": "offline"})
        try:
            for result in smoothed(frames, model):
                writer.write(result)
                if advance is not None:
                    advance()
        finally:
            writer.close()
        temporary.replace(path)
    except (OSError, PosecovError) as error:
        raise PosecovError(f"{path}: cannot be smoothed ({reason(error)}); --resume goes on from there") from None
    finally:
        temporary.unlink(missing_ok=True)


def smoothed(
    frames: Iterable[FrameResult], model: MotionModel | None = None, *, block: int = BLOCK, margin_s: float = MARGIN_S
) -> Iterator[FrameResult]:
    """The frames of a film with smoothed poses, from those measured. Gaps of up to `BRIDGE` seconds are filled.

    Args:
        frames: in order.
        model: of motion and errors.
        block: frames smoothed at a time.
        margin_s: seconds looked at on either side of them.
    """
    window: list[FrameResult] = []
    begin = 0  # What comes before it in the window is done.
    for result in frames:
        window.append(result)
        end = begin + block
        if end < len(window) and window[-1].time > window[end].time + margin_s:
            yield from _block(window, begin, end, model)
            first = next(k for k, known in enumerate(window) if known.time >= window[end].time - margin_s)
            window, begin = window[first:], end - first
    yield from _block(window, begin, len(window), model)


def _block(window: Sequence[FrameResult], begin: int, end: int, model: MotionModel | None) -> Iterator[FrameResult]:
    """The frames ``begin`` to ``end`` - 1 of a window, smoothed."""
    measured = [{person.id: person.measured for person in result.people} for result in window]
    times = [result.time for result in window]
    people: list[list[Followed]] = [[] for _ in window]
    for number in sorted(set().union(*measured)):
        poses = [frame.get(number) for frame in measured]
        for index, pose in enumerate(smooth(poses, times, model, gap_s=BRIDGE)):
            if pose is not None:
                people[index].append(Followed(number, pose, poses[index]))
    for index in range(begin, end):
        result = window[index]
        yield FrameResult(result.frame, result.time, people[index], result.damaged)
