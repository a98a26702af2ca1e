"""The way from one instance to PostgreSQL, which can be cut, held up, or become a black hole."""

import asyncio
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

_CHUNK = 64 << 10  # bytes


class _Link:
    """One connection of the instance and its other half, to the server."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near, self.far = near, far
        self.dead = False


class Proxy:
    """Listens on a port of this machine and passes everything on.

    Args:
        database_url: where to; a host and a port, or the folder of a socket
    """

    def __init__(self, database_url: str) -> None:
        self._to = urlsplit(database_url)
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.url = ""

    async def start(self) -> None:
        """Listen; `url` is then what an instance needs."""
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        who = f"{user}@" if (user := self._to.netloc.rpartition("@")[0]) else ""
        self.url = self._to._replace(netloc=f"{who}127.0.0.1:{port}", query="").geturl()

    def stop(self) -> None:
        """Close everything."""
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End all connections at once, as a restarted router does."""
        for link in list(self._links):
            link.near.transport.abort()
            link.far.transport.abort()

    def hold(self) -> None:
        """Pass nothing on, in either direction, also of new connections."""
        self._flowing.clear()

    def release(self) -> None:
        """Pass on what was held up, and what comes."""
        self._flowing.set()

    def forget(self) -> None:
        """Let held connections never move again: the server loses them, the instance hears nothing.

        New ones work.
        """
        for link in self._links:
            link.dead = True
            link.far.transport.abort()
        self.release()

    async def _pass_on(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far = await self._connect()
            link = _Link(near, far)
            self._links.add(link)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy(link, reader, far))
                    group.create_task(self._copy(link, far_reader, near))
            finally:
                self._links.discard(link)
                near.transport.abort()
                far.transport.abort()

    async def _copy(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                if not link.dead:
                    writer.write(data)
                    await writer.drain()
        await self._flowing.wait()
        if link.dead and writer is link.near:
            return  # its end is not told
        with suppress(OSError, RuntimeError):
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        query = parse_qs(self._to.query)
        host = self._to.hostname or query.get("host", ["127.0.0.1"])[0]
        port = self._to.port or int(query.get("port", ["5432"])[0])
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)
