"""The one exception a user is meant to read."""


class PosecovError(Exception):
    """Bad input, said in one line: what is wrong, where, and what to do.

    Command lines print the message without a traceback and exit with 1 or 2.
    """
