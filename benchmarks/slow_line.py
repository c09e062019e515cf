"""A long line to a server on this machine: whatever is sent arrives later, in either direction."""

import asyncio
import contextlib
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass

#: Bytes that are taken from a connection at a time.
_CHUNK = 2**16
#: How a request begins; clients send it at once, up to its body.
_METHODS = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")


@dataclass
class SlowLine:
    """The line.

    Attributes:
        endpoint: Its near end, http://HOST:PORT.
        requests: Requests that were sent along it.
    """

    endpoint: str = ""
    requests: int = 0


@contextlib.contextmanager
def slow_line(endpoint: str, seconds: float) -> Iterator[SlowLine]:
    """A proxy of TCP connections on loopback.

    Args:
        endpoint: The server, http://HOST:PORT.
        seconds: How much later everything arrives, each way: a request and its answer take twice that. Any
            number of bytes is under way at a time.
    """
    line = SlowLine()
    server = urllib.parse.urlsplit(endpoint)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="slow-line", daemon=True)
    thread.start()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(server.hostname, server.port)
        except OSError:
            writer.close()
            return
        # The streams of Python 3.11 take a connection that is cancelled for a fault.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_carry(reader, back, seconds, line), _carry(there, writer, seconds))

    started = asyncio.run_coroutine_threadsafe(asyncio.start_server(connect, "127.0.0.1", 0), loop).result()
    try:
        line.endpoint = f"http://127.0.0.1:{started.sockets[0].getsockname()[1]}"
        yield line
    finally:
        asyncio.run_coroutine_threadsafe(_end(started), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _carry(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    seconds: float,
    counted: SlowLine | None = None,
) -> None:
    """Pass bytes on, each so many seconds after it came; then the end of the connection."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take() -> None:
        data = b"?"
        while data:
            try:
                data = await source.read(_CHUNK)
            except OSError:
                data = b""
            if counted is not None:
                counted.requests += data.startswith(_METHODS)
            under_way.put_nowait((loop.time() + seconds, data))

    taking = loop.create_task(take())
    try:
        with contextlib.suppress(OSError):
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    break
                target.write(data)
                await target.drain()
    finally:
        taking.cancel()
        target.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
