"""How the C library hands out memory, which costs time in training on a CPU."""

import os
import sys

SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(2**31),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""For glibc: keep the buffers that a step frees for the next one."""

LEAVE = "POSECOV_LEAVE_MALLOC"
"""An environment variable; set to anything, `keep_freed_memory` does nothing."""


def keep_freed_memory() -> None:
    """Start this program over, in the same process, with `SETTINGS` in its environment; on Linux with glibc only.

    A training step on a CPU allocates and frees the same large buffers over and over. glibc gives each back to the kernel,
    which has to clear it again before the next use: 5 to 14 % of a step at 160 px. glibc reads these settings only while a
    program starts, hence the new start; the process keeps its number, its files and whoever waits for it, such as torchrun.
    Nothing happens where any of them is set already, where another allocator is loaded, or where `LEAVE` is set.
    """
    taken = any(name in os.environ for name in (*SETTINGS, LEAVE, "LD_PRELOAD", "GLIBC_TUNABLES"))
    if taken or not _has_glibc() or not sys.executable:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **SETTINGS})


def _has_glibc() -> bool:
    try:
        return sys.platform.startswith("linux") and (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        return False
