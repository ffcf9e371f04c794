"""A root folder of its own for a program: read-only copies of named paths, three devices, one writable folder.

Made inside new user and mount namespaces, so nothing of it is seen outside, and it is gone with the last process in
it. The writable folder is a tmpfs of limited size and number of files. There is no /proc and no /etc.
Sources: mount_namespaces(7), pivot_root(2), mount_setattr(2), tmpfs(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from distill.verify.jail import kernel

STAGES = ("/tmp", "/mnt", "/media", "/srv", "/var", "/home")  # any one: it is covered in this namespace only
BOX = "/box"
BOX_FILES = 2048


def build_root(readable: Iterable[str], devices: Sequence[str], disk_bytes: int, owner: int) -> None:
    """Become rooted in a tree that holds `readable` and `devices` at their own paths, and an empty BOX."""
    readable = sorted(readable)
    stage = _stage([*readable, *devices])
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", stage, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,nr_inodes=2048,mode=755")
    for path in readable:
        _bring(stage, path, kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV)
    for path in devices:
        _bring(stage, path, kernel.MOUNT_ATTR_NOSUID)
    box = stage + BOX
    os.mkdir(box)
    options = f"size={disk_bytes},nr_inodes={BOX_FILES},mode=700,uid={owner},gid={owner}"
    kernel.mount("tmpfs", box, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    kernel.change_root(stage)
    kernel.restrict_mount("/", kernel.MOUNT_ATTR_RDONLY, and_below=False)  # BOX is a mount of its own


def _stage(sources: list[str]) -> str:
    """A folder to mount the new root on that hides none of the sources."""
    for folder in STAGES:
        if os.path.isdir(folder) and not any(source.startswith(folder + "/") for source in sources):
            return folder
    raise FileNotFoundError(f"no folder to build a root on: each of {', '.join(STAGES)} holds a source or is missing")


def _bring(stage: str, path: str, attributes: int) -> None:
    """Mount `path` at the same place of the new tree; a link is made again as a link."""
    target = stage + path
    if os.path.lexists(target):
        return  # a parent was brought already
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.mkdir(target)
    elif os.path.exists(path):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    else:
        return
    kernel.mount(path, target, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.restrict_mount(target, attributes, and_below=True)
