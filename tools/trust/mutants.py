"""Break the formulas one at a time, and see whether the tests notice.

    python tools/trust/mutants.py [--only law mixture ...] [--per-function 6] [--seed 0] [--json out/mutants.jsonl]

Every mutant is one changed expression of a function (see `formulas`). The tests of MODULES are collected once, in this
process; each mutant runs in a fork of it, in which the functions of its module get the code of the changed source, and stops
at the first test that fails. Only tests that call the changed function run, the quickest first; none that needs data.

Exit code 0 when every mutant is killed, runs into the time limit, or stands with its reason in equivalent_mutants.yaml; 1 when
one survives, 2 when the tests fail without any change.
"""

import argparse
import collections
import importlib
import itertools
import json
import os
import random
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("POSECOV_DATA", None)

import pytest
import yaml
from _pytest.runner import runtestprotocol
from formulas import Mutant, is_new, mutants_of

from posecov.commands.terminal import needs_training_packages

_ROOT = Path(__file__).resolve().parents[2]
# Modules in posecov/, and the tests in tests/ that belong to them.
MODULES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("law", "coordinates"): ("test_law", "test_coordinates", "test_mixture", "evaluation/test_evaluation"),
    ("mixture", "density", "exchanges", "components"): (
        "test_mixture",
        "test_density",
        "test_exchanges",
        "test_components",
        "test_pose_mixture",
    ),
    ("pose", "clicks", "fixes", "suggest", "regions"): (
        "test_pose",
        "test_pose_mixture",
        "test_clicks",
        "test_fixes",
        "test_regions",
        "test_interchange",
        "test_skeleton",
    ),
    ("geometry", "boxes"): ("test_geometry", "test_coordinates", "test_boxes"),
    ("metrics", "ranking", "evaluation/uncertainty", "evaluation/oks"): (
        "test_metrics",
        "test_ranking",
        "evaluation/test_evaluation",
        "evaluation/test_evaluation_mixture",
        "evaluation/test_uncertainty",
        "evaluation/test_oks",
    ),
    ("tracking/kalman", "tracking/smoother", "tracking/measurement", "tracking/motion"): (
        "tracking/test_kalman",
        "tracking/test_smoother",
        "tracking/test_measurement",
        "tracking/test_motion",
        "tracking/test_fitting",
    ),
    tuple(f"learn/losses/{name}" for name in ("likelihood", "masks", "naive", "pose", "roots", "transport", "catalogue")): (
        "learn/losses/test_losses_catalogue",
        "learn/losses/test_losses_likelihood",
        "learn/losses/test_losses_mixture",
        "learn/losses/test_losses_pose",
        "learn/losses/test_losses_transport",
    ),
    ("learn/taylor",): ("learn/test_taylor",),
    tuple(
        f"learn/pseudo_labels/{name}" for name in ("approximate", "covariance", "engine", "neighbours", "search", "whitening")
    ): ("learn/test_pseudo_labels", "learn/test_pseudo_label_search", "learn/test_pseudo_label_engine"),
    tuple(f"learn/calibration/{name}" for name in ("adapt", "laws", "mixture", "shared", "single")): (
        "learn/test_calibration_formulas",
        "learn/test_calibration_mixture",
        "learn/test_calibration_adapt",
        "learn/test_own_data",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/trust/mutants.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of the modules' paths; all modules by default")
    parser.add_argument("--function", default="", help="part of the functions' names")
    parser.add_argument("--per-function", type=int, default=6, help="mutants of a function at most, drawn at random; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds a mutant may take, beside what its tests take")
    parser.add_argument("--longest", type=float, default=4.0, help="CPU seconds: tests that take longer are left out")
    parser.add_argument("--json", type=Path, help="JSON Lines: what became of every mutant is appended")
    parser.add_argument("--again", type=Path, help="such a file: only the mutants that survived there")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    options = parser.parse_args(arguments)
    os.chdir(_ROOT)
    sys.path.insert(0, str(_ROOT))
    tests_of = {
        f"posecov/{name}.py": tuple(f"tests/{test}.py" for test in tests) for names, tests in MODULES.items() for name in names
    }
    paths = [path for path in tests_of if not options.only or any(part in path for part in options.only)]
    survivors = None if options.again is None else _survivors(options.again)
    most = options.per_function if survivors is None else 0
    chosen = [mutant for path in paths for mutant in _chosen(path, options.function, most, options.seed, survivors)]
    paths = [path for path in paths if any(mutant.path == path for mutant in chosen)]
    if options.list or not chosen:
        print("\n".join(f"{mutant.path}:{mutant.line} {mutant.was} => {mutant.now}" for mutant in chosen) or "no such mutants")
        return 0 if chosen else 2
    plugin = _Campaign(chosen, {path: tests_of[path] for path in paths}, options)
    files = dict.fromkeys(test for path in paths for test in tests_of[path])
    pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", *files], plugins=[plugin])
    return plugin.code


def _survivors(path: Path) -> set[str]:
    """Keys of the mutants that were not killed in a campaign before."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["key"] for row in rows if row["state"] in ("survived", "not called")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"mutants: {path}: cannot be read as a file of --json ({error})") from None


def _chosen(path: str, function: str, most: int, seed: int, among: set[str] | None = None) -> list[Mutant]:
    """The mutants of a module, at most so many of each function."""
    groups: dict[str, list[Mutant]] = collections.defaultdict(list)
    source = Path(path).read_text(encoding="utf-8")
    for mutant in mutants_of(path, source):
        if among is not None and mutant.key not in among:
            continue
        groups[mutant.function].append(mutant)
    found = []
    for name, members in groups.items():
        if function in name:
            random.Random(f"{seed} {path} {name}").shuffle(members)
            new = itertools.islice((mutant for mutant in members if is_new(mutant, source)), most or None)
            found += sorted(new, key=lambda mutant: mutant.line)
    return found


class _Campaign:
    """The pytest plugin that runs mutants where pytest would run the tests."""

    def __init__(self, mutants: Sequence[Mutant], tests_of: Mapping[str, tuple[str, ...]], options: argparse.Namespace) -> None:
        self.mutants, self.tests_of, self.options, self.code = mutants, tests_of, options, 2

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True
        _settle_hypothesis()
        started = time.time()
        answer = _in_fork(lambda: _trace(session.items, {str(_ROOT / path) for path in self.tests_of}), limit=900.0)
        if not isinstance(answer, list):
            print(f"mutants: the tests do not pass without any change: {answer}", file=sys.stderr)
            return True
        times, calls = answer
        print(f"{len(times)} tests took {time.time() - started:.0f} s; {len(self.mutants)} mutants", flush=True)
        equivalent = _equivalent()
        results = []
        for index, mutant in enumerate(self.mutants):
            items = [
                (times[item.nodeid], item)
                for item in session.items
                if item.nodeid in times
                and item.nodeid.split("::")[0] in self.tests_of[mutant.path]
                and times[item.nodeid] <= self.options.longest
                and _touches(calls[item.nodeid], mutant)
            ]
            items.sort(key=lambda pair: pair[0])
            took = time.time()
            limit = self.options.limit + 10 * sum(seconds for seconds, _ in items)
            outcome = _in_fork(lambda mutant=mutant, items=items: _attack(mutant, [item for _, item in items]), limit)
            state, told = outcome if isinstance(outcome, list) else ("killed", outcome)
            if state == "survived":
                state = "equivalent" if mutant.key in equivalent else "survived" if items else "not called"
            results.append((mutant, state))
            if self.options.json is not None:
                row = {"key": mutant.key, "function": mutant.function, "line": mutant.line, "state": state, "by": told}
                _append(self.options.json, row | {"tests": len(items), "seconds": round(time.time() - took, 2)})
            if state in ("survived", "not called"):
                print(
                    f"[{index + 1}] {mutant.path}:{mutant.line} {mutant.function} {state}\n  - {mutant.was}\n  + {mutant.now}",
                    flush=True,
                )
            if sys.stderr.isatty():
                print(f"\r{index + 1}/{len(self.mutants)}", end="", file=sys.stderr, flush=True)
        self.code = _report(results)
        return True


def _trace(items: Sequence[pytest.Item], files: set[str]) -> tuple[dict[str, float], dict[str, list[str]]]:
    """CPU seconds of every test, and the functions of the modules that it calls, as path:name. Skipped tests have none."""
    root, times, calls = str(_ROOT) + os.sep, {}, {}
    made: dict[object, set[types.CodeType]] = {}  # What the first test of a fixture called: those after it find it made.
    seen: set[types.CodeType] = set()

    def watch(frame: types.FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_filename in files:
            seen.add(frame.f_code)

    for index, item in enumerate(items):
        seen.clear()
        started = time.process_time()
        sys.settrace(watch)
        reports = runtestprotocol(item, log=False, nextitem=items[index + 1] if index + 1 < len(items) else None)
        sys.settrace(None)
        if any(report.failed for report in reports):
            raise RuntimeError(item.nodeid)
        if not any(report.skipped for report in reports):
            times[item.nodeid] = time.process_time() - started
            shared = [fixture for fixture in _fixtures(item) if fixture.scope != "function"]
            for fixture in shared:
                made.setdefault(fixture, set(seen))
            seen.update(*(made[fixture] for fixture in shared))
            calls[item.nodeid] = sorted({f"{code.co_filename.removeprefix(root)}:{code.co_qualname}" for code in seen})
    return times, calls


def _fixtures(item: Any) -> list[Any]:
    """What pytest makes for a test."""
    return [definitions[-1] for definitions in getattr(item, "_fixtureinfo").name2fixturedefs.values()]  # noqa: B009


def _touches(calls: Sequence[str], mutant: Mutant) -> bool:
    """Whether a test that makes these calls can notice a mutant. Constants may be anywhere in their module."""
    name = f"{mutant.path}:{mutant.function}"
    module = mutant.path + ":"
    constant = not mutant.function or mutant.function.split(".")[-1].lstrip("_")[:1].isupper()
    return any(call.startswith(module) if constant else call == name or call.startswith(name + ".") for call in calls)


def _attack(mutant: Mutant, items: Sequence[pytest.Item]) -> tuple[str, str]:
    """Run tests against a mutant, up to the first that fails."""
    resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
    try:
        _install(mutant)
    except Exception as error:  # It breaks the import already.
        return "killed", f"at import: {error}"
    for index, item in enumerate(items):
        following = items[index + 1] if index + 1 < len(items) else None
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return "killed", item.nodeid
    return "survived", ""


def _install(mutant: Mutant) -> None:
    """Give the functions and plain constants of the mutant's module what its source says. Whoever has imported them sees it."""
    name = mutant.path.removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name)
    changed = types.ModuleType(name)
    changed.__dict__.update({key: value for key, value in module.__dict__.items() if key.startswith("__")})
    sys.modules[name] = changed  # Dataclasses look for their module there.
    exec(compile(mutant.source, str(_ROOT / mutant.path), "exec"), changed.__dict__)
    sys.modules[name] = module
    _take(module.__dict__, changed.__dict__, name)


def _take(old: Mapping[str, Any], new: Mapping[str, Any], name: str, owner: type | None = None) -> None:
    for key, value in new.items():
        if key not in old or (key.startswith("__") and key.endswith("__") and not callable(value)):
            continue
        if isinstance(value, type):
            if value.__module__ == name and isinstance(old[key], type):
                _take(vars(old[key]), vars(value), name, old[key])
            continue
        mine, theirs = _function(old[key]), _function(value)
        if isinstance(mine, types.FunctionType) and isinstance(theirs, types.FunctionType):
            if theirs.__module__ in (name, mine.__module__) and mine.__code__.co_freevars == theirs.__code__.co_freevars:
                mine.__code__, mine.__defaults__ = theirs.__code__, theirs.__defaults__
                mine.__kwdefaults__ = theirs.__kwdefaults__
                if hasattr(old[key], "cache_clear"):
                    old[key].cache_clear()
        elif isinstance(value, bool | int | float | str | tuple | list | dict) and not key.startswith("__"):
            if owner is not None:
                setattr(owner, key, value)
            elif isinstance(old, dict) and not callable(value) and _plain(value):
                old[key] = value


def _plain(value: object) -> bool:
    """Whether a constant holds nothing but numbers and text, which may replace the old one."""
    if isinstance(value, dict):
        return all(_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, tuple | list):
        return all(_plain(part) for part in value)
    return value is None or isinstance(value, bool | int | float | str)


def _function(value: object) -> object:
    """What is behind properties, class methods and caches."""
    for attribute in ("fget", "func", "__func__", "__wrapped__"):
        inner = getattr(value, attribute, None)
        if isinstance(inner, types.FunctionType):
            return inner
    return value


def _in_fork(task: Any, limit: float) -> Any:
    """What ``task`` returns in a fork of this process, through JSON; text about it when it returned nothing."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.setsid()
        os.close(reading)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            answer: Any = task()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    end, parts = time.time() + limit, []
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(end - time.time(), 0))[0]:
            part = pipe.read(1 << 20)
            if not part:
                break
            parts.append(part)
        else:
            os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    if time.time() >= end:
        return ["timed out", ""]
    return json.loads(b"".join(parts)) if parts else "the process died"


def _settle_hypothesis() -> None:
    """The same examples for every mutant, and no files."""
    from hypothesis import settings

    settings.register_profile("mutants", settings.default, derandomize=True, database=None, deadline=None)
    settings.load_profile("mutants")


def _equivalent() -> dict[str, str]:
    """Mutants that change nothing which a test could see, with the reasons."""
    path = Path(__file__).with_name("equivalent_mutants.yaml")
    groups = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else []
    return {key: group["reason"] for group in groups or [] for key in group["mutants"]}


def _append(path: Path, row: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _report(results: Sequence[tuple[Mutant, str]]) -> int:
    """Print the table; 1 when a mutant survived."""
    states = ("killed", "timed out", "equivalent", "not called", "survived")
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for mutant, state in results:
        table[mutant.path][state] += 1
        table["all"][state] += 1
    table["all"] = table.pop("all")
    print("\n| module | mutants | " + " | ".join(states) + " |")
    print("|---" * (len(states) + 2) + "|")
    for name, counts in table.items():
        print(f"| {name} | {counts.total()} | " + " | ".join(str(counts[state]) for state in states) + " |")
    return 1 if table["all"]["survived"] + table["all"]["not called"] else 0


if __name__ == "__main__":
    needs_training_packages("mutants")
    sys.exit(main(sys.argv[1:]))
