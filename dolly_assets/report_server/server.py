"""The HTTP server of reports: read-only, for readers and clients that need not be trusted.

It knows requests, hosts and limits; what a path shows is decided in `pages`.
"""

import socket
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line
from dolly_assets.core.urls import LOOPBACK
from dolly_assets.report_server.pages import NEVER_KEPT, STATIC, Pages

MOST_CONNECTIONS = 64  # each has a thread
SILENT_SECONDS = 10  # without a byte of a request
CONNECTION_SECONDS = 60  # a page has arrived by then; a client that sends byte by byte is cut off
BUSY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\n\r\n"

Request = socket.socket | tuple[bytes, socket.socket]  # the latter only of datagrams


class ReportServer(ThreadingHTTPServer):
    """Listens once it is created; call its `serve_forever`.

    A browser must have asked for one of the names that this server is known by. Otherwise a page of
    another site could read reports through a name of its own that it points at this machine.

    Args:
        pages: What is served.
        host: Address to listen on.
        port: Port to listen on; 0 is any free one.
        url: The address that browsers use, if it is another one. Its path is the one below which
            reports are served.

    Raises:
        OSError: The address is in use.
    """

    def __init__(self, pages: Pages, host: str, port: int, url: str | None = None) -> None:
        self.pages = pages
        public = urlsplit(url or "")
        self.root = f"{public.path.rstrip('/')}/"
        self.hosts = LOOPBACK | {host.lower(), public.hostname or "localhost"}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._opened_at: dict[socket.socket, float] = {}
        super().__init__((host, port), _Handler)

    def process_request(self, request: Request, client_address: tuple[str, int]) -> None:
        """Answer in a thread of its own, or at once that there are too many."""
        assert isinstance(request, socket.socket)
        if len(self._opened_at) >= MOST_CONNECTIONS:
            with suppress(OSError):
                request.setblocking(False)
                request.send(BUSY)
            self.shutdown_request(request)
            return
        self._opened_at[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Request) -> None:
        """Close a connection."""
        assert isinstance(request, socket.socket)
        super().shutdown_request(request)
        self._opened_at.pop(request, None)

    def service_actions(self) -> None:
        """End connections that were open for too long; called twice a second."""
        oldest = time.monotonic() - CONNECTION_SECONDS
        for request, opened_at in list(self._opened_at.items()):
            if opened_at < oldest:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Request, client_address: tuple[str, int]) -> None:
        """Print errors of this program, and not that a client has hung up."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENT_SECONDS

    @property
    def _reports(self) -> ReportServer:
        assert isinstance(self.server, ReportServer)
        return self.server

    def do_GET(self) -> None:
        if not self._is_for_us():
            self.send_error(
                HTTPStatus.MISDIRECTED_REQUEST,
                "unknown host: set DOLLY_REPORTS_URL for `dolly reports` to the address that "
                "browsers use",
            )
            return
        path = self.path.partition("?")[0]
        try:
            is_below = path.startswith(self._reports.root)
            page = (
                self._reports.pages.find(path.removeprefix(self._reports.root))
                if is_below
                else None
            )
        except DollyError as error:
            print(one_line(error), file=sys.stderr, flush=True)  # noqa: T201 the reader learns less
            page = None
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND, "no such report, or it cannot be read")
        else:
            self._answer(HTTPStatus.OK, page.body, "text/html", page.policy, page.cache)

    def _is_for_us(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        try:
            return len(hosts) == 1 and urlsplit(f"//{hosts[0]}").hostname in self._reports.hosts
        except ValueError:
            return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not served, as plain text."""
        status = HTTPStatus(code)
        self._answer(status, (message or status.phrase).encode(), "text/plain", STATIC, NEVER_KEPT)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str, policy: str, cache: str) -> None:
        self.connection.settimeout(CONNECTION_SECONDS)
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", policy),
            ("Cache-Control", cache),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Return what answers, without the versions of Python and its library."""
        return "dolly"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 as in the base class
        """Log nothing."""
