"""The name that was probably meant."""

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str], prefix: str = "") -> str:
    """The nearest of the names as the end of a message, such as "; did you mean lspet?"; empty when none is near.

    Args:
        prefix: stands before the name in the message.
    """
    found = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{found[0]}?" if found else ""
