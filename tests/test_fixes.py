"""Known joints from the command line or a file."""

from pathlib import Path

import pytest

from posecov.errors import PosecovError
from posecov.fixes import read_fixes

ONE, OTHER = Path("photos/a.jpg"), Path("photos/b.jpg")


def test_joints_alone_mean_the_only_picture():
    fixes = read_fixes(' {"l_wrist": [120, 88.5]}')
    assert fixes.of(ONE) == [{"l_wrist": (120.0, 88.5)}]
    assert fixes.joints == ["l_wrist"]
    fixes.check([ONE])
    with pytest.raises(PosecovError, match="no picture, and there are 2"):
        fixes.check([ONE, OTHER])
    assert read_fixes('[{}, {"neck": [1, 2]}]').of(ONE) == [{}, {"neck": (1.0, 2.0)}]


def test_pictures_by_name_from_a_file(tmp_path):
    file = tmp_path / "fixes.json"
    file.write_text('{"./a.jpg": {"neck": [1, 2]}, "photos/b.jpg": [{}, {"l_wrist": [3, 4], "neck": [5, 6]}]}')
    fixes = read_fixes(str(file))
    assert fixes.of(ONE) == [{"neck": (1.0, 2.0)}]
    assert fixes.of(OTHER) == [{}, {"l_wrist": (3.0, 4.0), "neck": (5.0, 6.0)}]
    assert fixes.of(Path("c.jpg")) == []
    assert fixes.joints == ["neck", "l_wrist", "neck"]
    fixes.check([ONE, OTHER, Path("c.jpg")])
    with pytest.raises(PosecovError, match=r"fixes.json: photos/b.jpg is not among"):
        fixes.check([ONE])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1, 2]",
        "{}",
        "[]x",
        '{"a.jpg": 3}',
        '{"a.jpg": {"neck": [1]}}',
        '{"a.jpg": {"neck": [1, true]}}',
        '{"a.jpg": {"neck": [1, NaN]}}',
        '{"neck": [1, 2], "hip": 3}',
        "nothing.json",
    ],
)
def test_what_is_wrong_is_one_line(text):
    with pytest.raises(PosecovError) as error:
        read_fixes(text)
    assert len(str(error.value).splitlines()) == 1
    assert ("nothing.json" if text.startswith("n") else "--fix") in str(error.value)


def test_numbers_beyond_all_floats(tmp_path):
    for text in (f'{{"l_wrist": [{10**400}, 1]}}', '{"l_wrist": [1e999, 1]}'):
        with pytest.raises(PosecovError):
            read_fixes(text)
