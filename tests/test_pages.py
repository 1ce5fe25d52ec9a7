"""The Markdown pages: links lead somewhere, and nothing is left to be filled in."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_OTHERS = {"node_modules", "dist", "build", "runs", "out", "poses"}  # Neither ours nor kept.


def pages():
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name not in _OTHERS and not name.startswith("."))
        yield from (Path(folder, name).relative_to(ROOT) for name in sorted(files) if name.endswith(".md"))


def trouble(text, folder):
    """A line for everything that is wrong with a page in this folder."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^()\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        if path and not (folder / path).exists():
            yield f"dead link {target}"
        if not path and anchor not in anchors:
            yield f"no heading for {target}"
    # A line, or a cell of a table, of nothing but capitals.
    yield from re.findall(r"^[A-Z]{4,}$|(?<=\| )(?!SIG)[A-Z]{5,}(?= \|)|\b(?:TODO|FIXME|TBD|XXX)\b", prose, re.MULTILINE)


@pytest.mark.parametrize("page", list(pages()), ids=str)
def test_links_lead_somewhere_and_nothing_is_left_to_be_filled_in(page):
    assert not list(trouble((ROOT / page).read_text(encoding="utf-8"), (ROOT / page).parent))


def test_what_is_wrong_is_seen(tmp_path):
    (tmp_path / "a.png").touch()
    good = "# Two words\n[a](a.png) ![b](a.png#x) [c](https://x.y/none) [d](#two-words)\n```\nRESULTS\n```\nJSON, CSV\n"
    assert not list(trouble(good, tmp_path))
    for bad in ("[a](b.png)", "![a](a/../b.md#c)", "[a](#three)", "so:\n\nRESULTS\n", "| a | RESULTS |\n", "a TODO\n"):
        assert len(list(trouble(good + bad, tmp_path))) == 1, bad
    assert {Path("README.md"), Path("docs/trust/README.md")} <= set(pages())
