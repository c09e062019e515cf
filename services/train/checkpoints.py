"""Checkpoints on the store: all that the next step depends on, so that a killed run loses little.

A checkpoint is a folder of safetensors files and a ``checkpoint.json``, written last, that names them with
their sha256: without it, the folder is none.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import torch
from safetensors.torch import load
from torch import Tensor

from lungforge.errors import ContentError, InputError
from lungforge.models.learner import State
from lungforge.models.snapshots import Snapshot
from lungforge.storage import join_uri, open_uri, read_bytes, write_bytes_atomic
from lungforge.storage.errors import explained
from lungforge.storage.reading import file_size
from services.common.progress import say
from services.train.staging import Staging

_COMMIT = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """A state after some steps.

    Attributes:
        steps: Steps done; the position in the data follows from it.
        state: Groups of named tensors, as the learner gives them.
        history: The metrics of every step so far, float64 [steps, metrics].
        snapshots: Averages that were kept so far; their files are in the dataset.
    """

    steps: int
    state: State
    history: Tensor
    snapshots: tuple[Snapshot, ...] = ()

    @property
    def groups(self) -> State:
        """All its tensors, the metrics among them."""
        return {**self.state, "history": {"history": self.history}}

    @classmethod
    def of_groups(cls, groups: State, snapshots: tuple[Snapshot, ...] = ()) -> Self:
        """The checkpoint whose ``groups`` these are: it has a row of metrics for each step."""
        state = {name: tensors for name, tensors in groups.items() if name != "history"}
        history = groups["history"]["history"]
        return cls(len(history), state, history, snapshots)


class CheckpointStore:
    """The checkpoints of one run. As a context, it ends once the last one is written.

    Args:
        uri: Folder of the run's dataset; checkpoints are in ``checkpoints`` below it.
        work: The digest of what the run does: a checkpoint of other work is never loaded.
        keep: Newest checkpoints to keep.
        settled: Steps after which a checkpoint is known to be good. The newest that old is kept as well, and
            the one that will be it next.
    """

    def __init__(self, uri: str, work: str, keep: int, settled: int = 0) -> None:
        # Runs that differ never touch one another's checkpoints.
        self._run, self._all = uri, join_uri(uri, "checkpoints")
        self.uri = join_uri(self._all, work[:12])
        self.keep, self.settled = keep, settled
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._staging = Staging()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; returns once its content is copied, and writes while training continues.

        After one that could not be written, there are no more: ``require_written`` says why.
        """
        if self._has_failed():
            return
        self._staging.copy(checkpoint.groups)
        self._pending = self._writer.submit(self._write, checkpoint.steps, checkpoint.snapshots)

    def write_ahead(self, write: Callable[[], None]) -> None:
        """Write files that later checkpoints name, while training continues: before any of those."""
        if not self._has_failed():
            self._pending = self._writer.submit(write)

    def _has_failed(self) -> bool:
        """Whether the last write failed; waits for it, so that memory holds the content of one."""
        return self._pending is not None and self._pending.exception() is not None

    def require_written(self) -> None:
        """Raise what kept the last checkpoint from being written, if that is known; does not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Return once the last checkpoint is written; raises what kept it from that."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def newest(self) -> Checkpoint | None:
        """The newest sound checkpoint; a damaged one is passed over for the one before, and reported."""
        for steps in reversed(self._committed()):
            try:
                return self.load(steps)
            except InputError as error:
                say(f"{error}; going back to the checkpoint before")
        return None

    def of_any_run(self) -> bool:
        """Whether there are checkpoints in the dataset, of this run or of one that differs."""
        fs, path = open_uri(self._all)
        with explained(self._all):
            return bool(fs.glob(f"{path}/*/step-*/{_COMMIT}"))

    def load(self, steps: int) -> Checkpoint:
        """Read the checkpoint after some steps.

        Raises:
            InputError: A file is missing or altered, or holds what is not finite.
            AccessError: A file cannot be read now.
        """
        folder = self._folder(steps)
        document = json.loads(read_bytes(join_uri(folder, _COMMIT)))
        groups = {}
        for file, sha256 in document["files"].items():
            name = file.removesuffix(".safetensors")
            data = read_bytes(join_uri(folder, file))
            if hashlib.sha256(data).hexdigest() != sha256:
                raise ContentError(f"{join_uri(folder, file)}: altered since it was written")
            groups[name] = load(data)
            check_finite(groups[name], join_uri(folder, file))
        snapshots = tuple(map(Snapshot.from_json, document["snapshots"]))
        for part in (snapshot.part for snapshot in snapshots):
            if not _is_there(join_uri(self._run, part.path), part.bytes):
                raise ContentError(f"{join_uri(self._run, part.path)}: gone or altered since it was written")
        return Checkpoint.of_groups(groups, snapshots)

    def _write(self, steps: int, snapshots: Sequence[Snapshot]) -> None:
        folder = self._folder(steps)
        # A folder without its last file, or a damaged one that was passed over, is written anew.
        self._remove(steps)
        files = {}
        for name, data in self._staging.files():
            file = f"{name}.safetensors"
            write_bytes_atomic(join_uri(folder, file), data)
            files[file] = hashlib.sha256(data).hexdigest()
        document = {
            "steps": steps,
            "files": files,
            "snapshots": [snapshot.to_json() for snapshot in snapshots],
        }
        write_bytes_atomic(join_uri(folder, _COMMIT), json.dumps(document, sort_keys=True, indent=1).encode())
        for old in self._superfluous(self._committed()):
            self._remove(old)

    def _superfluous(self, committed: list[int]) -> list[int]:
        settled = [done for done in committed if done <= committed[-1] - self.settled]
        coming = committed[len(settled) :]
        kept = {*committed[-self.keep :], *settled[-1:], *(coming[:1] if self.settled else ())}
        return [done for done in committed if done not in kept]

    def last_before(self, steps: int) -> int | None:
        """The newest checkpoint of at most so many steps, by its steps."""
        self.wait()
        return max((done for done in self._committed() if done <= steps), default=None)

    def _committed(self) -> list[int]:
        """Steps of the checkpoints that are whole, ascending."""
        fs, path = open_uri(self.uri)
        with explained(self.uri):
            names = fs.glob(f"{path}/step-*/{_COMMIT}")
        return sorted(int(name.split("/")[-2].removeprefix("step-")) for name in names)

    def _remove(self, steps: int) -> None:
        """Remove a checkpoint, its last file first: half of one is never taken for a whole."""
        fs, path = open_uri(self._folder(steps))
        with explained(self.uri):
            if fs.exists(f"{path}/{_COMMIT}"):
                fs.rm_file(f"{path}/{_COMMIT}")
            if fs.exists(path):
                fs.rm(path, recursive=True)

    def _folder(self, steps: int) -> str:
        return join_uri(self.uri, f"step-{steps:08d}")


def _is_there(uri: str, size: int) -> bool:
    try:
        return file_size(uri) == size
    except FileNotFoundError:
        return False


def check_finite(tensors: Mapping[str, Tensor], uri: str) -> None:
    """Raise ``ContentError`` where a tensor is not finite: training cannot resume from it."""
    for key, value in tensors.items():
        bad = value.numel() - int(value.isfinite().sum())
        if bad:
            raise ContentError(f"{uri}: {bad} of {value.numel()} values of {key} are not finite")


def history_tensor(history: Sequence[Sequence[float]], columns: int) -> Tensor:
    """The metrics of the steps as float64 [steps, columns]."""
    return torch.tensor(history, dtype=torch.float64).reshape(-1, columns)
