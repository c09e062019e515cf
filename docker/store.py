"""SeaweedFS with one port on the network: S3, which asks for a key.

    store.py PORT S3_PORT ARGUMENT...    runs `weed mini ARGUMENT...` and passes connections to PORT on to S3

Filer, master and volumes ask for no key, nor does the gRPC port of S3, through which anybody may add a user.
SeaweedFS binds all of them to one address, so that is loopback, and only S3 is passed on. Ends with
SeaweedFS, and ends it on SIGTERM.
"""

import asyncio
import contextlib
import signal
import sys

LOOPBACK = "127.0.0.1"


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on what arrives, and then its end."""
    with contextlib.suppress(OSError):  # one side hung up
        while data := await source.read(1 << 18):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


async def main(port: int, s3_port: int, arguments: list[str]) -> int:
    """Run SeaweedFS; returns its exit code."""
    addresses = [f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-s3.port={s3_port}"]
    weed = await asyncio.create_subprocess_exec("weed", "mini", *arguments, *addresses)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            to_reader, to_writer = await asyncio.open_connection(LOOPBACK, s3_port)
            with contextlib.closing(to_writer):
                await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, weed.terminate)
    async with await asyncio.start_server(connected, "0.0.0.0", port):  # noqa: S104 - it asks for a key
        return await weed.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
