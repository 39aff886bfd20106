"""Where the UI's reader opens a report: at the address of `dolly reports`, which `dolly ui` starts too."""

import os
from urllib.parse import quote

DEFAULT_URL = "http://127.0.0.1:3001"


def report_link(path: str) -> str:
    """The URL of a page that the report server shows; `DOLLY_REPORTS_URL` says where that is reached."""
    return f"{(os.environ.get('DOLLY_REPORTS_URL') or DEFAULT_URL).rstrip('/')}/{quote(path)}"
