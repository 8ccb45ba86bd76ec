#!/usr/bin/env python3
"""power_cut.py JOURNAL INTO [--base FOLDER] [--root FOLDER] [--until N] [--seed S]: what a power cut leaves.

Replays the first N records of a journal (power_cut.c) over the files of BASE, and writes into the new folder INTO what
a file system may have of them after a power cut. Certain is what a sync that had returned covers:

- of a file, its bytes and its size when the sync began; of what came later, any 4096 bytes may be of any later moment,
  or zeros where the size grew;
- of a folder, its names when its sync began; of what came later, the first few changes. The sync of a new file makes
  its name certain too, as ext4 does.

Equal seeds leave equal files.
"""
import argparse
import random
import struct
from pathlib import Path

PAGE_BYTES = 4096
HEAD = struct.Struct("=IIQQQ")  # struct Record


class Record:
    """kind: O opened for writing, T has another size, W written, R renamed, L linked, U unlinked, M folder made,
    D folder removed, B sync begun, S sync done, F frame encoded."""

    def __init__(self, kind, path, inode, at, data):
        self.kind, self.path, self.inode, self.at, self.data = kind, path, inode, at, data


def read_journal(file, root):
    """-> its records, with paths relative to `root`. One that a kill cut off is none."""
    whole, records, at = Path(file).read_bytes(), [], 0
    root = str(Path(root).resolve())
    while at + HEAD.size <= len(whole):
        kind, path_bytes, inode, offset, count = HEAD.unpack_from(whole, at)
        end = at + HEAD.size + path_bytes + count
        if end > len(whole):
            break
        text = whole[at + HEAD.size:at + HEAD.size + path_bytes].decode()
        data = whole[end - count:end]
        kind = chr(kind)
        if kind in "RL":
            data = relative(data.decode(), root)
        records.append(Record(kind, relative(text, root), inode, offset, data))
        at = end
    return records


def relative(path, root):
    return path[len(root):].strip("/") if path.startswith(root) else path


def split(path):
    folder, _, name = path.rpartition("/")
    return folder, name


class File:
    """certain: its bytes, on the disk for sure. later: what came since, a list of (record, offset, data), or
    (record, size, None) where the size was set."""

    def __init__(self, certain=b""):
        self.certain, self.later = bytearray(certain), []

    def synced(self, begun):
        for number, at, data in self.later:
            if number < begun:
                apply(self.certain, at, data)
        self.later = [change for change in self.later if change[0] >= begun]

    def certain_size(self):
        """Up to here neither a write nor a cut is open."""
        return min([len(self.certain)] + [at for _, at, data in self.later if data is None])

    def all(self):
        whole = bytearray(self.certain)
        for _, at, data in self.later:
            apply(whole, at, data)
        return bytes(whole)

    def left(self, rng):
        """As a power cut leaves it. The size is that of one moment, each page that of another, but no page has what a
        later cut of the file made free, as the size goes."""
        moment = some(rng, 0, len(self.later))
        size, most = len(self.certain), len(self.certain)
        for number, (_, at, data) in enumerate(self.later):
            most = max(most, at + len(data or b""))
            if number < moment:
                size = at if data is None else max(size, at + len(data))
        whole = bytearray(self.certain[:size]).ljust(size, b"\0")
        for page, changes in sorted(self.changed_pages(most).items()):
            begin = page * PAGE_BYTES
            end = min(begin + PAGE_BYTES, size)
            content = self.page_at(page, self.some_moment(rng, changes, moment))
            if begin < end:
                whole[begin:end] = content[:end - begin]
        return bytes(whole)

    def changed_pages(self, most):
        """-> by page the numbers of the changes that are of it. most: bytes that the file ever had."""
        pages = {}
        for number, (_, at, data) in enumerate(self.later):
            end = most if data is None else at + len(data)
            for page in range(at // PAGE_BYTES, (end - 1) // PAGE_BYTES + 1):
                pages.setdefault(page, []).append(number)
        return pages

    def some_moment(self, rng, changes, moment):
        """-> those of a page's changes that are on the disk. moment: of the size."""
        cuts = [i for i, number in enumerate(changes) if self.later[number][2] is None]
        first = max([i + 1 for i in cuts if changes[i] < moment], default=0)
        last = min([i for i in cuts if changes[i] >= moment], default=len(changes))
        return changes[:some(rng, first, last)]

    def page_at(self, page, changes):
        begin = page * PAGE_BYTES
        content = bytearray(self.certain[begin:begin + PAGE_BYTES]).ljust(PAGE_BYTES, b"\0")
        for number in changes:
            _, at, data = self.later[number]
            if data is None:
                keep = min(max(at - begin, 0), PAGE_BYTES)
                content[keep:] = bytes(PAGE_BYTES - keep)
                continue
            first, last = max(at, begin), min(at + len(data), begin + PAGE_BYTES)
            content[first - begin:last - begin] = data[first - at:last - at]
        return content


def apply(content, at, data):
    size = at if data is None else max(len(content), at + len(data))
    del content[size:]
    content.extend(bytes(size - len(content)))
    if data is not None:
        content[at:at + len(data)] = data


def some(rng, first, last):
    """The ends are likelier than what is between them: nothing and all are what disks do most."""
    return rng.choice([first, last, rng.randint(first, last)])


class Folder:
    """names: now. changes: a list of (record, name, node); None for a name that went, a text for its new name."""

    def __init__(self, names=()):
        self.names = dict(names)
        self.base, self.changes, self.certain = dict(names), [], 0

    def change(self, number, name, to):
        self.changes.append((number, name, to))
        change_names(self.names, name, to)

    def synced(self, begun):
        self.certain = max(self.certain, sum(number < begun for number, _, _ in self.changes))

    def left(self, rng):
        names = dict(self.base)
        for _, name, to in self.changes[:some(rng, self.certain, len(self.changes))]:
            change_names(names, name, to)
        return names


def change_names(names, name, to):
    if isinstance(to, str):
        names[to] = names.pop(name)
    elif to is None:
        del names[name]
    else:
        names[name] = to


class Disk:
    """The files below a folder, and how certain they are."""

    def __init__(self, base=None):
        self.root = load(Path(base)) if base else Folder()
        self.inodes, self.made, self.begun = {}, {}, {}
        self.frames = 0  # that were handed to the encoder

    def node(self, path):
        node = self.root
        for name in filter(None, path.split("/")):
            node = node.names.get(name) if isinstance(node, Folder) else None
        return node

    def run(self, records):
        for number, record in enumerate(records):
            getattr(self, "run_" + record.kind)(number, record)
        return self

    def run_O(self, number, record):
        folder, name = self.folder_of(record.path)
        if name not in folder.names:
            folder.change(number, name, File())
            self.made[folder.names[name]] = folder, number
        self.inodes[record.inode] = folder.names[name]

    def run_T(self, number, record):
        self.inodes[record.inode].later.append((number, record.at, None))

    def run_W(self, number, record):
        self.inodes[record.inode].later.append((number, record.at, record.data))

    def run_R(self, number, record):
        folder, name = self.folder_of(record.path)
        assert split(record.path)[0] == split(record.data)[0], "between folders: is not modelled"
        folder.change(number, name, split(record.data)[1])

    def run_L(self, number, record):
        folder, name = self.folder_of(record.data)
        folder.change(number, name, self.node(record.path))

    def run_U(self, number, record):
        folder, name = self.folder_of(record.path)
        folder.change(number, name, None)

    run_D = run_U

    def run_M(self, number, record):
        folder, name = self.folder_of(record.path)
        folder.change(number, name, Folder())

    def run_B(self, number, record):
        self.begun[record.at] = number

    def run_S(self, number, record):
        node, begun = self.inodes.get(record.inode), self.begun[record.at]
        if node is None:
            node = self.node(record.path)
        node.synced(begun)
        folder, made = self.made.get(node, (None, begun))
        if made < begun:
            folder.synced(made + 1)

    def run_F(self, number, record):
        self.frames += 1

    def folder_of(self, path):
        folder, name = split(path)
        return self.node(folder), name

    def leave(self, into, seed):
        """Writes what is left into a new folder."""
        write_left(self.root, Path(into), random.Random(seed))

    def everything(self):
        """-> each file's bytes by its path, had there been no cut."""
        return dict(all_below(self.root, ""))


def load(folder):
    return Folder({entry.name: load(entry) if entry.is_dir() else File(entry.read_bytes())
                   for entry in folder.iterdir()})


def write_left(folder, into, rng):
    into.mkdir()
    for name, node in sorted(folder.left(rng).items()):
        if isinstance(node, Folder):
            write_left(node, into / name, rng)
        else:
            (into / name).write_bytes(node.left(rng))


def all_below(folder, path):
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            yield from all_below(node, path + name + "/")
        else:
            yield path + name, node.all()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("journal")
    parser.add_argument("into")
    parser.add_argument("--base", help="the files before the first record (default: none)")
    parser.add_argument("--root", default="/", help="POWER_CUT_ROOT of the journal")
    parser.add_argument("--until", type=int, help="how many records (default: all)")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    records = read_journal(options.journal, options.root)
    Disk(options.base).run(records[:options.until]).leave(options.into, options.seed)


if __name__ == "__main__":
    main()
