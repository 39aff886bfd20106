"""The permissions that this package needs in Kubernetes, read from its own code.

It knows the client's methods, not Roles and clusters.
"""

import ast
import inspect
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
METHOD = re.compile(r"(create|read|list|delete|patch|replace|connect_\w+?)_(?:namespaced_)?\w+")
PATH = re.compile(r"'(/apis?/[^']+)',\s*'(GET|POST|PUT|PATCH|DELETE)'")
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Right(NamedTuple):
    """One verb on one resource; `group` is empty for the core group."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


@cache
def _apis() -> list[type]:
    from kubernetes import client

    names = ("CoreV1Api", "BatchV1Api", "AppsV1Api", "SchedulingV1Api", "AuthorizationV1Api")
    return [getattr(client, name) for name in names]


@cache
def right_of(method: str) -> Right | None:
    """Return the right that a method of the Kubernetes client needs; None if it needs none."""
    for api in _apis():
        if function := getattr(api, f"{method}_with_http_info", None):
            found = PATH.search(inspect.getsource(function))
            assert found, method
            right = _right(*found.groups(), is_one=method.startswith("read"))
            return (
                right._replace(verb="deletecollection")
                if method.startswith("delete_collection")
                else right
            )
    return None


def _right(path: str, http: str, *, is_one: bool) -> Right:
    """Return the right that a request needs.

    Args:
        path: Path of the API, with names in braces.
        http: The HTTP method.
        is_one: Whether a GET reads one object, which is `get`, and not `list`.
    """
    group = "" if path.startswith("/api/") else path.split("/")[2]
    parts = re.sub(
        r"^/(api/v1|apis/[^/]+/(?:v\w+|\{version\}))(/namespaces/\{namespace\}(?=/))?/", "", path
    ).split("/")
    resource = "/".join(part for part in parts if not part.startswith("{"))
    return Right(VERBS.get(http) or ("get" if is_one else "list"), group, resource)


def rights_in(code: ast.AST) -> set[Right]:
    """Return the rights that the client's methods and paths named in some code need."""
    found: set[Right] = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Attribute) and METHOD.fullmatch(node.attr):
            found |= {right} if (right := right_of(node.attr)) else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found |= _rights_of_call(node, node.func.attr)
    return found


def _rights_of_call(call: ast.Call, method: str) -> set[Right]:
    """Return the rights of a request by path, or of a watch, which needs `watch` for its list."""
    if method == "call_api":
        path, http = (ast.literal_eval(argument) for argument in call.args[:2])
        return {_right(path, http, is_one="{name}" in path)}
    if method == "stream":
        lists = {right for argument in call.args for right in rights_in(argument)}
        return {right._replace(verb="watch") for right in lists if right.verb == "list"}
    return set()


def rights_of_folder(folder: Path) -> set[Right]:
    """Return the rights that the modules of a folder need."""
    return {
        right for file in folder.rglob("*.py") for right in rights_in(ast.parse(file.read_text()))
    }
