"""The report on an evaluation: one HTML page that needs nothing else, and the same as Markdown with its pictures beside it."""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posecov.errors import PosecovError
from posecov.evaluation.pictures import Shown
from posecov.evaluation.sections import Block, Gallery, Picture, pictures_of, sections
from posecov.evaluation.tables import Table
from posecov.files import write_atomic
from posecov.output import prepare_folder


def write_report(
    folder: Path,
    report: dict[str, Any],
    source: Mapping[str, Any],
    worst: Sequence[Shown] = (),
    uncertain: Sequence[Shown] = (),
) -> Path:
    """Write ``report.html``, ``report.md``, ``plots/`` and ``pictures/`` into a folder, made when missing.

    Args:
        folder: where to. The pictures are those of the data set: mind its terms before you pass them on.
        report: what `evaluation.evaluate` gives.
        source: what was evaluated: model, weights, sha256, dataset, and the ``command``.
        worst: people with the largest errors.
        uncertain: people with the largest sigmas.

    Returns:
        The path of the page.

    Raises:
        PosecovError: the folder cannot be written, or matplotlib is not installed.
    """
    check_plotting()
    folder = prepare_folder(folder)
    title = f"{source['model']} on {source['dataset']}"
    content = sections(report, source, worst, uncertain)
    pictures = [picture for _, blocks in content for picture in pictures_of(blocks)]
    for name in sorted({Path(picture.path).parent for picture in pictures}):
        prepare_folder(folder / name)
    for picture in pictures:
        write_atomic(folder / picture.path, picture.content)
    write_atomic(folder / "report.md", _markdown(title, content).encode())
    path = folder / "report.html"
    write_atomic(path, _html(title, content).encode())
    return path


def check_plotting() -> None:
    """Raises PosecovError when matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PosecovError('a report needs matplotlib; run pip install -e ".[evaluate]"') from None


def _markdown(title: str, content: Sequence[tuple[str, Sequence[Block]]]) -> str:
    parts = [f"# {title}"]
    for heading, blocks in content:
        parts.append(f"## {heading}")
        for block in blocks:
            if isinstance(block, str):
                parts.append(block)
            elif isinstance(block, Table):
                parts.append(block.markdown().rstrip())
            else:
                parts += [f"![{picture.words}]({picture.path})" for picture in pictures_of([block])]
    return "\n\n".join(parts) + "\n"


def _html(title: str, content: Sequence[tuple[str, Sequence[Block]]]) -> str:
    body = []
    for number, (heading, blocks) in enumerate(content):
        body.append(f'<section id="s{number}"><h2>{html.escape(heading)}</h2>')
        body += [_html_block(block) for block in blocks]
        body.append("</section>")
    links = "".join(f'<a href="#s{index}">{html.escape(heading)}</a>' for index, (heading, _) in enumerate(content))
    return _PAGE.format(title=html.escape(title), style=_STYLE, links=links, body="\n".join(body))


def _html_block(block: Block) -> str:
    if isinstance(block, str):
        text = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(block))
        return f"<p>{text}</p>"
    if isinstance(block, Table):
        return block.html()
    if isinstance(block, Gallery):
        figures = [
            f"<figure>{_image(picture)}<figcaption>{html.escape(words)}</figcaption></figure>"
            for picture, words in block.pictures
        ]
        return f'<div class="gallery">{"".join(figures)}</div>'
    return f'<div class="plot">{_image(block)}</div>'


def _image(picture: Picture) -> str:
    kind = "svg+xml" if picture.path.endswith(".svg") else "jpeg"
    content = base64.b64encode(picture.content).decode()
    return f'<img alt="{html.escape(picture.words)}" src="data:image/{kind};base64,{content}">'


_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1.5rem; max-width: 68rem;
  font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff; }
h1 { font-size: 1.7rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid #dde2e8; padding-bottom: .3rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; }
a { color: #0062a3; text-decoration: none; }
a:hover { text-decoration: underline; }
p { max-width: 50rem; margin: .6rem 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; border-bottom: 1px solid #edf0f3; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; white-space: normal; min-width: 4.5rem; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
tr.strong td { font-weight: 600; }
.plot img { width: 100%; height: auto; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
figure img { width: 100%; height: 22rem; object-fit: contain; background: #f2f4f6; border-radius: 4px; }
figcaption { font-size: .82rem; line-height: 1.35; color: #465361; overflow-wrap: anywhere; }
code { font-size: .85em; background: #f2f4f6; padding: .1em .3em; border-radius: 3px; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<nav>{links}</nav>
{body}
</body>
</html>
"""
