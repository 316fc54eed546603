"""A disk that loses its power: a layer under SQLite that knows which writes were synced, and what is left of a file without the others.

The layer is a VFS of the SQLite library that Python itself uses, made with ctypes and registered as its default, so that
the code under test is exactly the product's. Every write still goes to the real file (SQLite must be able to read it back);
beside it `Disk` keeps, for each file, what stands there for certain and the writes since the last sync.
"""

import ctypes
import ctypes.util
import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512


@dataclass
class Durable:
    """One file: `synced` is what a loss of power leaves for certain; `since` are writes that it may take, in order."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes]] = field(default_factory=list)  # (offset, bytes); offset -1 - n = cut to n bytes

    def sync(self) -> None:
        """Everything that was written is there for certain now."""
        for offset, data in self.since:
            if offset < 0:
                del self.synced[-1 - offset :]
            else:
                put(self.synced, offset, data)
        self.since.clear()

    def left(self, draw: random.Random | None) -> bytes:
        """The file after a loss of power: without `draw` every write since the sync is lost, with it some survive, in parts."""
        content = bytearray(self.synced)
        for offset, data in self.since if draw else ():
            if offset < 0:
                if draw.random() < 0.5:
                    del content[-1 - offset :]
                continue
            for start in range(0, len(data), SECTOR):
                if draw.random() < 0.5:
                    put(content, offset + start, data[start : start + SECTOR])
        return bytes(content)


def put(content: bytearray, offset: int, data: bytes) -> None:
    """Write into the bytes as into a file."""
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """What every file under SQLite would be after a loss of power."""

    def __init__(self) -> None:
        self.files: dict[str, Durable] = {}
        self.syncs = 0
        self.still = threading.Lock()  # an outage is one moment for all files

    def lose_power(self, folder: Path, draw: random.Random | None) -> None:
        """Lay down in `folder` what is left of each file."""
        folder.mkdir()
        with self.still:
            for name, durable in self.files.items():
                (folder / Path(name).name).write_bytes(durable.left(draw))


_Int, _Pointer, _Int64 = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
_WRITE = ctypes.CFUNCTYPE(_Int, _Pointer, _Pointer, _Int, _Int64)
_TRUNCATE = ctypes.CFUNCTYPE(_Int, _Pointer, _Int64)
_SYNC = ctypes.CFUNCTYPE(_Int, _Pointer, _Int)
_CLOSE = ctypes.CFUNCTYPE(_Int, _Pointer)
_OPEN = ctypes.CFUNCTYPE(_Int, _Pointer, _Pointer, _Pointer, _Int, ctypes.POINTER(_Int))
_DELETE = ctypes.CFUNCTYPE(_Int, _Pointer, ctypes.c_char_p, _Int)


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("version", _Int), ("close", _CLOSE), ("read", _Pointer), ("write", _WRITE), ("truncate", _TRUNCATE),
        ("sync", _SYNC), *((f"rest{n}", _Pointer) for n in range(13)),
    ]  # fmt: skip


class _File(ctypes.Structure):
    """sqlite3_file."""

    _fields_ = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = [
        ("version", _Int), ("file_size", _Int), ("max_path", _Int), ("next", _Pointer), ("name", ctypes.c_char_p),
        ("data", _Pointer), ("open", _OPEN), ("delete", _DELETE), *((f"rest{n}", _Pointer) for n in range(14)),
    ]  # fmt: skip


def library() -> ctypes.CDLL | None:
    """The SQLite library that this Python's sqlite3 uses; None when it cannot be reached from outside."""
    import sqlite3

    for name in (None, ctypes.util.find_library("sqlite3")):
        try:
            found = ctypes.CDLL(name)
            found.sqlite3_libversion.restype = ctypes.c_char_p
            if found.sqlite3_libversion().decode() == sqlite3.sqlite_version:
                return found
        except (OSError, AttributeError):
            continue
    return None


def install(sqlite: ctypes.CDLL) -> Disk:
    """Put the layer under every SQLite file that this process opens from now on. It stays for the life of the process."""
    disk = Disk()
    names: dict[int, str] = {}
    tables: dict[int, Any] = {}
    sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    below = sqlite.sqlite3_vfs_find(None).contents
    vfs = _Vfs.from_buffer_copy(below)
    keep: list[Any] = [vfs]
    _kept.append((disk, names, tables, keep, below))

    def on_open(_vfs: int, path: int | None, file: int, flags: int, out: Any) -> int:
        result = below.open(ctypes.addressof(below), path, file, flags, out)
        handle = ctypes.cast(file, ctypes.POINTER(_File)).contents
        if result or not path or not handle.methods:
            return result
        name = os.fsdecode(ctypes.string_at(path))
        names[file] = name
        durable = disk.files.setdefault(name, Durable())
        if not durable.synced and not durable.since and Path(name).exists():
            durable.synced[:] = Path(name).read_bytes()
        original = handle.methods.contents
        table = _Methods.from_buffer_copy(original)

        def on_write(file: int, data: int, amount: int, offset: int) -> int:
            with disk.still:
                disk.files[names[file]].since.append((offset, ctypes.string_at(data, amount)))
            return original.write(file, data, amount, offset)

        def on_truncate(file: int, size: int) -> int:
            with disk.still:
                disk.files[names[file]].since.append((-1 - size, b""))
            return original.truncate(file, size)

        def on_sync(file: int, flags: int) -> int:
            with disk.still:
                disk.syncs += 1
                disk.files[names[file]].sync()
            return original.sync(file, flags)

        table.write, table.truncate, table.sync = _WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync)
        keep.append(table)
        handle.methods = ctypes.pointer(table)
        return result

    def on_delete(_vfs: int, path: bytes, sync_folder: int) -> int:
        disk.files.pop(os.fsdecode(path), None)
        return below.delete(ctypes.addressof(below), path, sync_folder)

    vfs.name = b"power"
    vfs.open, vfs.delete = _OPEN(on_open), _DELETE(on_delete)
    assert sqlite.sqlite3_vfs_register(ctypes.byref(vfs), 1) == 0
    return disk


_kept: list[Any] = []
