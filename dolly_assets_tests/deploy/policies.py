"""An S3 server that enforces the policies of deploy/iam/: moto's, behind a check of each request.

A user is called as the policy that it has, `worker` for worker.json; any other may do everything.
It knows what the policies use: allowed actions, wildcards, and the condition `Null`.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Statement = dict[str, Any]
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>denied</Message></Error>"


def statements_of(folder: Path) -> dict[str, list[Statement]]:
    """The statements of each policy, by the file's name without `.json`."""
    files = sorted(folder.glob("*.json"))
    return {file.stem: json.loads(file.read_text())["Statement"] for file in files}


def is_allowed(
    statements: Iterable[Statement], action: str, resource: str, keys: dict[str, str]
) -> bool:
    """Whether a statement allows an action; `keys` are the condition keys of the request."""
    return any(
        action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        and all(
            (key not in keys) == (value == "true")
            for key, value in statement.get("Condition", {}).get("Null", {}).items()
        )
        for statement in statements
    )


def _asked(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """The actions of a request, each with what it is about."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].strip("/")
    bucket, _, key = path.partition("/")
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    where = f"arn:aws:s3:::{bucket}"
    if method == "POST" and "delete" in query:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = BytesIO(body)
        found = [each.text for each in ET.fromstring(body).iter() if each.tag.endswith("Key")]
        return [("s3:DeleteObject", f"{where}/{each}") for each in found]
    if not key:
        return [("s3:ListBucket" if method == "GET" else f"s3:{method}Bucket", where)]
    actions = {"GET": "GetObject", "HEAD": "GetObject", "DELETE": "DeleteObject"}
    return [(f"s3:{actions.get(method, 'PutObject')}", f"{where}/{key}")]


@contextmanager
def enforcing_server(
    folder: Path, *, ignores_conditions: bool = False, host: str = "127.0.0.1", port: int = 0
) -> Iterator[str]:
    """Yields the URL of a server that enforces the policies in a folder.

    Args:
        folder: that of the policies.
        ignores_conditions: overwrites objects in conditional puts, as old servers do.
        host, port: where it listens; any free port if 0.
    """
    policies, moto = statements_of(folder), DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        user = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        policy = policies.get(user[1]) if user else []
        header = environ.get("HTTP_IF_NONE_MATCH")
        keys = {} if header is None else {"s3:if-none-match": header}
        if policy is not None and not all(
            is_allowed(policy, action, resource, keys) for action, resource in _asked(environ)
        ):
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [DENIED]
        if ignores_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        return moto(environ, start)

    server = make_server(host, port, application, threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://{host}:{server.server_port}"
    server.shutdown()
    thread.join()
