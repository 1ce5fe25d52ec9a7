"""The commands of ``posecov``, one file each: a frozen dataclass of options whose ``run`` returns the exit code.

Exit codes: 0 all done, 1 some inputs failed, 2 wrong usage or nothing could start. A `PosecovError` that leaves
``run`` is the latter. Modules here stay light: what a command needs is imported when it runs, so that ``posecov --help``
is quick.
"""
