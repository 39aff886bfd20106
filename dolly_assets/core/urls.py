"""The default URLs of our servers, and URLs without the secrets that people put into them.

A URL can hold a password (`https://user:password@host/`) or a token in its query, as a presigned
URL does. Neither belongs into settings, which Dagster shows and keeps, nor into messages and logs.
"""

import re

from dolly_assets.core.errors import ConfigurationError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names of this machine, which only its own programs reach."""
REPORTS_PORT = 3001
REPORTS_URL = f"http://127.0.0.1:{REPORTS_PORT}"
PLAYGROUND_PORT = 3002
PLAYGROUND_URL = f"http://127.0.0.1:{PLAYGROUND_PORT}"

# A colon before the @ means a password, which can hold unescaped slashes.
_USER = re.compile(r"(?<=//)(?:[^/\s]*:\S*|[^/\s]*)@")
_USER_WITHOUT_SCHEME = re.compile(r"(?<![^\s'\"(])[^\s/@:'\"(]+:[^\s/@]\S*@(?=\S)")
# urllib3 begins its errors with the connection or pool that they are about.
_ABOUT_URLLIB3 = re.compile(r"^<?\w*(?:Connection|Pool)\(.*?\)>?: ")
_QUERY = re.compile(r"(?<=://)([^\s?]*)\?[^\s'\")]+")


def without_secrets(text: str) -> str:
    """Return a URL, or any text, with users, passwords and queries of URLs left out."""
    return _QUERY.sub(r"\1", _USER_WITHOUT_SCHEME.sub("", _USER.sub("", text)))


def connection_failure(error: BaseException, limit: int) -> str:
    """Return on one line why a connection failed, without what urllib3 says around it.

    Args:
        error: The error.
        limit: The number of characters after which the line is cut off with an ellipsis.
    """
    from dolly_assets.core.text import one_line  # loads pydantic

    return _ABOUT_URLLIB3.sub("", one_line(error, limit))


def has_password(url: str) -> bool:
    """Return whether a URL names a user, with or without a password."""
    return bool(_USER.search(url) or _USER_WITHOUT_SCHEME.match(url))


def check_no_password(url: str, what: str) -> str:
    """Return the URL if it names no user and no password.

    Args:
        url: The URL, or a path.
        what: What the URL is, to begin the message with.

    Raises:
        ConfigurationError: It does; the message shows neither.
    """
    if has_password(url):
        raise ConfigurationError(
            f"{what} {without_secrets(url)} was given with a user name or password: remove it, and "
            "put credentials into environment variables, such as AWS_ACCESS_KEY_ID or HF_TOKEN"
        )
    return url
