"""Writes one small dataset again and again, each time with a fault at the next point of writing.

Run as a program: ``faulty_writer.py BASE killed|error write|reopen``. ``reopen`` commits a finished dataset
again with one more part. Run number k goes to BASE/k, in a process of its own
that is killed, or is given an error, at point k: before, after and, for local files, in the middle of every
single operation that changes the store. The last run meets no fault. Prints a JSON list of
[point, how the run ended].
"""

import errno
import io
import json
import os
import signal
import sys

import numpy as np
from s3fs import S3FileSystem

from lungforge.datasets import DatasetWriter, Kind, table_from_rows
from lungforge.storage import join_uri
from lungforge.storage.s3 import S3Store

CONFIG = {"size": 8}
UNITS = ("a", "b")
#: The least that S3 takes as one of several parts of an upload.
CHUNK = 5 * 2**20


def write_dataset(uri: str) -> None:
    """A job as the services do it: look for what is there, write the rest, commit."""
    writer = DatasetWriter(uri, Kind.CROPS, CONFIG, seed=7)
    if writer.find_manifest() is None:
        parts = [writer.find_part(unit) or writer.write_part(unit, table(unit)) for unit in UNITS]
        size = 2 * CHUNK if uri.startswith("s3:") else 1000  # two parts on S3
        parts.append(writer.write_file("weights.bin", np.random.default_rng(1).bytes(size)))
        writer.commit(parts, {"units": len(UNITS)})


def begin_dataset(uri: str) -> None:
    """The finished dataset of the first unit."""
    writer = DatasetWriter(uri, Kind.CROPS, CONFIG, seed=7)
    writer.commit([writer.write_part(UNITS[0], table(UNITS[0]))], {"units": 1})


def reopen_dataset(uri: str) -> None:
    """A job that adds the other unit to it."""
    writer = DatasetWriter(uri, Kind.CROPS, CONFIG, seed=7)
    parts = [writer.find_part(unit) or writer.write_part(unit, table(unit)) for unit in UNITS]
    writer.commit(parts, {"units": len(UNITS)}, replacing=writer.find_manifest())


def table(unit: str):
    generator = np.random.default_rng(UNITS.index(unit))
    rows = [
        {
            "series_uid": unit,
            "subset": 0,
            "slice_index": index,
            "x": 3.0,
            "y": 4.0,
            "label": index % 2,
            "image": generator.integers(-1000, 400, (32, 32)).astype(np.int16),
        }
        for index in range(3)
    ]
    return table_from_rows(Kind.CROPS, rows)


def use_small_chunks(set_attribute) -> None:
    """Let a multipart upload begin at 2 * CHUNK, to keep the tests quick."""
    set_attribute(S3FileSystem._pipe_file, "__defaults__", (CHUNK, None, "overwrite"))


class Fault:
    """Counts the points of writing; at the chosen one the process dies, or the operation fails."""

    def __init__(self, chosen: int, how: str) -> None:
        self.chosen, self.how, self.passed = chosen, how, 0

    def point(self, name: str) -> None:
        if self.passed == self.chosen:
            os.write(1, json.dumps(name).encode())
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            self.passed += 1
            raise OSError(errno.EIO, "injected")
        self.passed += 1

    def around(self, module, name: str) -> None:
        original = getattr(module, name)

        def with_points(*args, **kwargs):
            self.point(f"before {name}")
            result = original(*args, **kwargs)
            self.point(f"after {name}")
            return result

        setattr(module, name, with_points)

    def install(self) -> None:
        for name in ("mkdir", "link", "replace", "fsync", "unlink"):
            self.around(os, name)
        opened = io.open

        def open_faulty(file, mode="r", *args, **kwargs):
            if not set(mode) & set("wxa+"):
                return opened(file, mode, *args, **kwargs)
            self.point("before open")
            return FaultyFile(opened(file, mode, *args, **kwargs), self)

        io.open = open_faulty
        call = S3Store._call_s3
        fault = self

        async def call_faulty(fs, method, *args, **kwargs):
            if method.startswith(("get_", "head_", "list_")):
                return await call(fs, method, *args, **kwargs)
            fault.point(f"before {method}")
            result = await call(fs, method, *args, **kwargs)
            fault.point(f"after {method}")
            return result

        S3Store._call_s3 = call_faulty


class FaultyFile:
    """A file whose content is half on the disk at one of the points."""

    def __init__(self, file, fault: Fault) -> None:
        self.file, self.fault = file, fault

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        self.fault.point("before write")
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.fault.point("middle of write")
        self.file.write(data[len(data) // 2 :])
        self.fault.point("after write")
        return len(data)


def run(uri: str, chosen: int, how: str, what: str) -> tuple[str, str]:
    """One run in a child process: the point that it met ("" for none), and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        if what == "reopen":
            begin_dataset(uri)
        Fault(chosen, how).install()
        try:
            write_dataset(uri) if what == "write" else reopen_dataset(uri)
        except OSError:
            os._exit(3)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        point = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(point or '""'), {0: "done", 3: "error", -signal.SIGKILL: "killed"}.get(
        status, str(status)
    )


def main(base: str, how: str, what: str) -> None:
    use_small_chunks(setattr)
    table(UNITS[0])  # pyarrow imports pandas with its first table; once here is quicker than in every child
    ends = []
    while not ends or ends[-1][0]:
        ends.append(run(join_uri(base, str(len(ends))), len(ends), how, what))
    print(json.dumps(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
