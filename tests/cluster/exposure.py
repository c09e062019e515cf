"""What other users can read: Ray's files, the dashboard's pages, the store, and command lines."""

import contextlib
import io
import json
import threading
from pathlib import Path

import pyarrow.parquet as pq

from lungforge.storage import open_uri
from tests.ray_head import RayHead

#: Pages of the dashboard about jobs, nodes, tasks, workers, and what was submitted with them.
PAGES = (
    "/api/jobs/",
    "/api/version",
    "/api/cluster_status",
    "/nodes?view=summary",
    *(
        f"/api/v0/{kind}?detail=true"
        for kind in (
            "actors",
            "jobs",
            "nodes",
            "objects",
            "runtime_envs",
            "tasks",
            "workers",
            "cluster_events",
        )
    ),
)


class CommandLines(threading.Thread):
    """Every command line of the machine, as ``ps`` would show it, again and again until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.25):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    self.seen.add(words.decode(errors="replace"))

    def __enter__(self) -> "CommandLines":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.join()


def exposed(head: RayHead, store: str) -> dict[str, str]:
    """Everything that other users can read: Ray's files, the dashboard's pages, the objects of the store."""
    texts = {}
    for file in head.folder.rglob("*"):
        if file.is_file() and file != head.token_file:
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                texts[str(file)] = file.read_bytes().decode(errors="replace")
    nodes = json.loads(head.get("/api/v0/nodes")[1])["data"]["result"]["result"]
    pages = [*PAGES, *(f"/nodes/{node['node_id']}" for node in nodes)]
    pages += [f"/api/jobs/{name}{what}" for name in head.jobs() for what in ("", "/logs")]
    for page in pages:
        status, texts[page] = head.get(page)
        assert status == 200, page
    texts["/metrics"] = head.get("/metrics", None, port=head.ports["metrics-export"])[1]
    fs, folder = open_uri(store)
    for path in fs.find(folder):
        content = fs.cat_file(path)
        texts[path] = content.decode(errors="replace")
        if path.endswith(".parquet"):
            texts[path] += _texts_of(content)
    return texts


def _texts_of(content: bytes) -> str:
    """What a Parquet file says beside numbers: it is compressed, and would not be found as bytes."""
    table = pq.read_table(io.BytesIO(content))
    words = [
        name for name, kind in zip(table.column_names, table.schema.types, strict=True) if kind == "string"
    ]
    return f"{table.schema.metadata} {table.select(words).to_pylist()}"


def holders_of(places: dict[str, str], secret: str) -> list[str]:
    """The places that hold it."""
    return [place for place, content in places.items() if secret in content]
