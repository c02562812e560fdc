"""What of a request's path and method means the same: slashes at the end, HEAD, a proxy's prefix.

All of it is answered directly: a redirect would name the scheme and host that this server sees, and
behind a proxy that ends TLS these are not the client's.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """ASGI middleware around what looks at paths: the one below which a proxy shows this server.

    Proxies that take it off their requests and proxies that leave it there are both understood.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path == self._root and scope["method"] in {"GET", "HEAD"}:
                # The console's own addresses are relative: they need the slash.
                folder = f"{self._root.rpartition('/')[2]}/"
                query = scope["query_string"].decode("latin-1")
                location = f"{folder}?{query}" if query else folder
                await Response(status_code=308, headers={"Location": location})(
                    scope, receive, send
                )
                return
            if path.startswith(f"{self._root}/"):
                scope = {**scope, "path": path.removeprefix(self._root)}
        await self._app(scope, receive, send)


class FrameworkPaths:
    """ASGI middleware around the framework alone: its routes need know nothing of all this."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path != "/":
                path = path.removesuffix("/")
            # The server below looks at the method that came, and sends no body after HEAD.
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            root = self._root
            scope = {**scope, "path": f"{root}{path}", "root_path": root, "method": method}
        await self._app(scope, receive, send)
