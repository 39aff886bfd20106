"""Requests as bytes."""

import socket
from email.parser import BytesParser
from http.client import HTTPMessage
from typing import NamedTuple
from urllib.parse import urlsplit

PAGE = "<!DOCTYPE html><title>é</title>"


class Answer(NamedTuple):
    """What a server has sent before it closed the connection."""

    status: int
    headers: HTTPMessage
    body: str


def ask(address: str, target: str | bytes, host: str = "", method: str = "GET") -> Answer:
    """Returns the answer to one request, whose target is sent as it is."""
    there = urlsplit(address)
    target = target.encode() if isinstance(target, str) else target
    lines = (
        method.encode() + b" " + target + b" HTTP/1.1",
        b"Host: " + (host or there.netloc).encode(),
    )
    with connect(address) as connection:
        connection.sendall(b"\r\n".join((*lines, b"", b"")))
        return answer(connection)


def connect(address: str) -> socket.socket:
    """Returns a connection on which nothing was sent."""
    there = urlsplit(address)
    return socket.create_connection((there.hostname, there.port), timeout=30)


def answer(connection: socket.socket) -> Answer:
    """Returns what arrives until the server closes."""
    with connection.makefile("rb") as file:
        status = file.readline().split()[1]
        head, _, body = file.read().partition(b"\r\n\r\n")
        headers = BytesParser(_class=HTTPMessage).parsebytes(head)
        return Answer(int(status), headers, body.decode())
