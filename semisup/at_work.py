"""Whether a command is at work in a study folder, without touching its lock."""

import os
from pathlib import Path

from semisup.folders import LOCK
from semisup.heartbeat import read_heartbeat

LOCKS = Path("/proc/locks")  # of Linux


def is_at_work(study_dir: Path, locks: Path = LOCKS) -> bool:
    """Whether `semisup run` is at work in a folder.

    Its lock is looked up where the system lists locks: to try it would keep a command out that begins at that
    very moment. Elsewhere, and for a command on another machine, what running jobs say is all there is.
    """
    if any(read_heartbeat(path) for path in Path(study_dir).glob("progress/*.json")):
        return True
    try:
        inode = os.stat(Path(study_dir) / LOCK).st_ino
        return any(_names_inode(line, inode) for line in locks.read_text().splitlines())
    except OSError:
        return False


def _names_inode(line: str, inode: int) -> bool:
    """For instance "2: FLOCK  ADVISORY  WRITE 2174 fe:01:396554 0 EOF"."""
    fields = line.split()
    return "FLOCK" in fields and any(field.endswith(f":{inode}") for field in fields)
