"""The one exception a user is meant to read."""

LONGEST = 2000
"""Characters of a message at most: files with nonsense in them are quoted in it."""


class PosecovError(Exception):
    """Bad input, said in one line: what is wrong, where, and what to do.

    Command lines print the message without a traceback and exit with 1 or 2.
    """

    def __init__(self, message: object):
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """At most `LONGEST` characters of a text, its middle left out, all of which print: no file can move a cursor."""
    text = _shortened(text)
    if text.isprintable():
        return text
    return _shortened("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[5 - LONGEST // 2 :]}"
