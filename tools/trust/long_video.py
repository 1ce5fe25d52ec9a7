"""A long film through ``posecov video``, and whether memory, handles and threads stay flat.

    python tools/trust/long_video.py --out DIR [--frames 20000] [--smooth live] [--model tiny] [--pictures PHOTO...]

The film is made here: people from photos, the demo's where none are given, cross a plain ground, alone or in twos, come near
and go away, leave the frame for some seconds and come back. What comes out must have every frame, the right times, and people
in most of the frames that show them. ``DIR`` then has the film, its results, ``memory.csv`` and ``memory.png``. Smoothed
offline a run has three parts, estimating, smoothing and drawing, each judged by itself. Exit code 1 when anything is not as it
must be.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from watching import Sample, Watch, judge, plot_samples, write_samples

from posecov.commands.demo import demo_photos
from posecov.errors import PosecovError
from posecov.images import read_image
from posecov.output import prepare_folder
from posecov.video.writing import FilmWriter

SIZE = (320, 240)
RATE = 30
_ROUND = 40 * RATE  # Frames after which the play begins anew.
_AWAY = (26 * RATE, 34 * RATE)  # Of a round, nobody is there.
_LEAST_SEEN = 0.5  # Share of the frames with somebody in them in which somebody must be found.
_PART = re.compile(r"^(?:posecov: )?film\.mp4(, smoothing|, drawing)?: (\d+)")


def make_film(path: Path, frames: int, photos: Sequence[Path], seed: int) -> None:
    """Write the film, `SIZE` at `RATE` frames per second."""
    pictures = [_small(read_image(photo)) for photo in photos]
    random = np.random.default_rng(seed)
    ground = cv2.resize(random.integers(60, 140, (4, 5, 3), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    writer = FilmWriter(path, Fraction(1, RATE), Fraction(RATE), 1)
    for index in range(frames):
        writer.write(_frame(index, pictures, ground), index)
        if index % 2000 == 1999:
            print(f"film: {index + 1} of {frames} frames made", flush=True)
    writer.close()


def _small(picture: np.ndarray) -> np.ndarray:
    height = SIZE[1] - 20
    return cv2.resize(picture, (round(picture.shape[1] * height / picture.shape[0]), height), interpolation=cv2.INTER_AREA)


def _frame(index: int, pictures: Sequence[np.ndarray], ground: np.ndarray) -> np.ndarray:
    frame, place = ground.copy(), index % _ROUND
    for slot in range(2):
        if not somebody(index) or (slot == 1 and place < _ROUND // 2):
            continue
        picture = pictures[(index // _ROUND + slot) % len(pictures)]
        size = (0.75 if place < _ROUND // 2 else 0.6) + 0.15 * np.sin(2 * np.pi * place / (9 * RATE))
        x = SIZE[0] * (0.1 + 0.35 * slot) + 30 * np.sin(2 * np.pi * (place / (4 * RATE) + slot / 3))
        move = np.array([[size, 0, x], [0, size, SIZE[1] - 10 - size * picture.shape[0]]])
        shown = cv2.warpAffine(picture, move, SIZE, flags=cv2.INTER_LINEAR)
        inside = cv2.warpAffine(np.full(picture.shape[:2], 255, np.uint8), move, SIZE)
        frame[inside > 127] = shown[inside > 127]
    return frame


def somebody(index: int) -> bool:
    """Whether a frame shows anybody."""
    return not _AWAY[0] <= index % _ROUND < _AWAY[1]


def run(film: Path, out: Path, smooth: str, model: str) -> tuple[dict[str, list[Sample]], int]:
    """The samples of ``posecov video`` by part, in the order of the parts, and its exit code."""
    options = ["video", str(film), "--out", str(out), "--smooth", smooth, "--model", model, "--threads", "1"]
    code = f"import sys; from posecov.cli import main; sys.exit(main({options!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    parts: list[tuple[str, float]] = [("", 0.0)]
    done, start = [0], time.monotonic()
    watch = Watch(process.pid, lambda: done[0])
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", flush=True)
        if match := _PART.match(line):
            name = match[1] or ""
            if name != parts[-1][0]:
                parts.append((name, time.monotonic() - start))
            done[0] = int(match[2])
    returned = process.wait()
    samples = watch.stop()
    names = {"": "estimating", ", smoothing": "smoothing", ", drawing": "drawing"}
    ends = [since for _, since in parts[1:]] + [float("inf")]
    return {
        names[name]: [sample for sample in samples if since <= sample.seconds < end]
        for (name, since), end in zip(parts, ends, strict=True)
    }, returned


def check(out: Path, frames: int) -> list[str]:
    """What is wrong with the results."""
    wrong = []
    numbers, found, ids = 0, 0, set()
    with (out / "film.jsonl").open() as lines:
        json.loads(next(lines))
        for numbers, line in enumerate(lines, start=1):
            document = json.loads(line)
            if document["frame"] != numbers - 1 or abs(document["time"] - (numbers - 1) / RATE) > 1e-3:
                wrong.append(f"line {numbers + 1} is frame {document['frame']} at {document['time']} s")
                break
            found += bool(document["people"]) and somebody(numbers - 1)
            ids |= {person["id"] for person in document["people"]}
    shown = sum(map(somebody, range(frames)))
    with av.open(str(out / "film.mp4")) as container:
        drawn = sum(1 for packet in container.demux(video=0) if packet.dts is not None)
    print(f"{numbers} lines, {drawn} frames drawn, somebody in {found} of {shown} frames that show people, {len(ids)} ids")
    if (numbers, drawn) != (frames, frames):
        wrong.append(f"{numbers} lines and {drawn} pictures for {frames} frames")
    if found < _LEAST_SEEN * shown:
        wrong.append(f"somebody was found in {found} of {shown} frames only")
    if left := [path.name for path in out.iterdir() if ".part." in path.name or path.name.startswith(".")]:
        wrong.append(f"left behind: {' '.join(left)}")
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/trust/long_video.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the film, its results and the figures")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--smooth", choices=("none", "live", "offline"), default="live")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--pictures", type=Path, nargs="+", help="photos of people; the demo's when not given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    results = prepare_folder(options.out) / "results"
    film = options.out / "film.mp4"
    make_film(film, options.frames, options.pictures or demo_photos(), options.seed)
    start = time.monotonic()
    parts, returned = run(film, results, options.smooth, options.model)
    minutes = (time.monotonic() - start) / 60
    samples = [sample for part in parts.values() for sample in part]
    write_samples(options.out / "memory.csv", samples)
    wrong = [f"posecov video ended with exit code {returned}"] if returned else check(results, options.frames)
    print(f"{options.frames} frames, --smooth {options.smooth}, {minutes:.1f} minutes")
    for name, part in parts.items():
        # Beside the block that is being smoothed, memory holds what comes before and after it: flat once the second is full.
        for verdict in judge(part):
            print(f"{name}: {verdict}")
            wrong += [] if verdict.flat else [f"{name}: {verdict.what} is not flat"]
    marks = [part[0].seconds for part in list(parts.values())[1:]]
    title = f"posecov video --smooth {options.smooth}, {options.frames} frames"
    plot_samples(options.out / "memory.png", samples, title, marks)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PosecovError as error:
        sys.exit(f"tools/trust/long_video.py: {error}")
