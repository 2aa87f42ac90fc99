"""How many cores there are to use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cores() -> int:
    """Cores this process may use: its affinity, and its cgroup's quota rounded up; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cgroup_quota())))


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """CPU quota in cores: the smallest of the groups around this process; infinity where there is none.

    Of version 2 `own` says in which group that is; in a container it is the root. Of version 1 only the
    root is looked at.
    """
    quotas = [_quota(root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us")]
    group = root / _own_group(own)
    while group.is_relative_to(root):
        quotas.append(_quota(group / "cpu.max"))
        group = group.parent
    return min(quotas)


def _own_group(own: Path) -> str:
    """Where in version 2's tree this process is, relative to its root; empty for the root and version 1."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return ""
    place = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
    return "" if ".." in Path(place).parts else place  # a group outside of this container's view


def _quota(*files: Path) -> float:
    """Quota over period, which stand in `files` in this order, in cores."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
