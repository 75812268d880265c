"""Processes of this host, told apart even if a number is used again or another host has the same name."""

import os
from pathlib import Path


def process_namespace() -> str:
    """The set of processes visible from here, by name: two hosts or containers may share a host name, but not this."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{os.readlink('/proc/self/ns/pid')} {boot}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process of this host started, as text; empty if it is gone. Tells processes apart that reuse a pid."""
    fields = _process_fields(pid)
    if fields is None:
        return _alive_without_proc(pid)
    return "" if fields[0] == "Z" else fields[19]


def is_suspended(pid: int) -> bool:
    """Whether a process of this host is stopped, as by Ctrl-Z or SIGSTOP."""
    fields = _process_fields(pid)
    return fields is not None and fields[0] == "T"


def _process_fields(pid: int) -> list[str] | None:
    """What /proc says of a process, from its state on; None if there is no such process, or no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _alive_without_proc(pid: int) -> str:
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"
