"""A layer under the files of a study that records every operation, and disks that crashed."""

import os
import pathlib

from keras_svag.engine.files import storage

# What a crash leaves of the operations so far:
# - killed: all of them;
# - half: all of them, the last write cut in half;
# - power cut: only names of folders that were synced, with content that was synced;
# - lost content: all names, with content that was synced.
MODES = ("killed", "half", "power cut", "lost content")


class QuickFiles(storage.LocalFiles):
    """Local files that are not flushed to the disk, which takes milliseconds each time."""

    def sync(self, path):
        pass

    def sync_folder(self, folder):
        pass


class RecordingFiles(QuickFiles):
    """Local files below a folder; `log` holds the operations with paths relative to it."""

    def __init__(self, root):
        self.root, self.log = pathlib.Path(root), []

    def _record(self, name, *arguments):
        getattr(super(), name)(*arguments)
        relative = [
            os.path.relpath(a, self.root) if isinstance(a, (str, os.PathLike)) else bytes(a)
            for a in arguments
        ]
        self.log.append((name, *relative))

    def write(self, path, content):
        self._record("write", path, content)

    def append(self, path, content):
        self._record("append", path, content)

    def sync(self, path):
        self._record("sync", path)

    def replace(self, source, target):
        self._record("replace", source, target)

    def remove(self, path):
        self._record("remove", path)

    def make_folder(self, folder):
        self._record("make_folder", folder)

    def sync_folder(self, folder):
        self._record("sync_folder", folder)


class Disk:
    """Names and contents after some operations, in memory and on the disk."""

    def __init__(self, operations, is_half=False):
        self._contents, self._synced = [], []  # by number of the file
        self._names, self._synced_names = {}, {}
        self._folders, self._synced_folders = {"."}, {"."}
        for index, (name, *arguments) in enumerate(operations):
            if is_half and index == len(operations) - 1 and name in ("write", "append"):
                path, content = arguments
                arguments = [path, content[: len(content) // 2]]
            getattr(self, name)(*arguments)

    def write(self, path, content):
        self._names[path] = len(self._contents)
        self._contents.append(content)
        self._synced.append(b"")

    def append(self, path, content):
        self._contents[self._names[path]] += content

    def sync(self, path):
        number = self._names[path]
        self._synced[number] = self._contents[number]

    def replace(self, source, target):
        self._names[target] = self._names.pop(source)

    def remove(self, path):
        self._names.pop(path, None)  # lock files are made elsewhere

    def make_folder(self, folder):
        self._folders.add(folder)

    def sync_folder(self, folder):
        def inside(names):
            return [name for name in names if os.path.dirname(name) == folder.removeprefix(".")]

        for name in inside(self._synced_names):
            del self._synced_names[name]
        self._synced_names |= {name: self._names[name] for name in inside(self._names)}
        self._synced_folders |= set(inside(self._folders))

    def _survives(self, name):
        parents = [str(parent) for parent in pathlib.Path(name).parents]
        return self._synced_folders.issuperset(parents)

    def files(self, mode):
        """Content by name, as the next process finds it."""
        if mode == "power cut":
            names = {n: i for n, i in self._synced_names.items() if self._survives(n)}
        else:
            names = self._names
        contents = self._contents if mode in ("killed", "half") else self._synced
        return {name: contents[number] for name, number in names.items()}

    def restore(self, folder, mode):
        """Writes what survived into an empty folder, as files that are long there."""
        is_cut = mode == "power cut"
        for name in sorted(self._synced_folders if is_cut else self._folders):
            if not is_cut or self._survives(name):
                (folder / name).mkdir(parents=True, exist_ok=True)
        for name, content in self.files(mode).items():
            (folder / name).write_bytes(content)
            os.utime(folder / name, (0, 0))


def crashes(operations):
    """Prefixes of a log, with the modes in which they leave different files."""
    for count in range(len(operations) + 1):
        is_write = count and operations[count - 1][0] in ("write", "append")
        for mode in MODES:
            if mode != "half" or is_write:
                yield count, mode
