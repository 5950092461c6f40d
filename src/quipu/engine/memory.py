"""Memory of this machine and this process: how much is free, and giving back what is not needed any more."""

from __future__ import annotations

import ctypes
from pathlib import Path


def available_memory() -> int:
    """Bytes free for use without swapping: the kernel's MemAvailable, bounded by the control group's limit (v2)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        return min(available, group_memory(Path("/sys/fs/cgroup"), available))
    except OSError:  # no control group of its own
        return available


def group_memory(group: Path, unlimited: int) -> int:
    """Bytes that a control group (v2) may still take; ``unlimited`` where it has no limit. Raises OSError if none."""
    limit = (group / "memory.max").read_text().strip()
    if limit == "max":
        return unlimited
    used = int((group / "memory.current").read_text())
    fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    # Cached file pages, those of the model just downloaded among them, count as used but are dropped when needed.
    return int(limit) - used + int(fields["active_file"]) + int(fields["inactive_file"])


def peak_memory() -> int:
    """Most bytes that this process held in memory until now, those that it shares with others included."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def return_freed_memory() -> None:
    """Give memory that was freed back to the system. glibc keeps it: after loading 135 M weights, 190 MB of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none and need none
    if trim is not None:
        trim(0)
