"""Where the UI's reader opens a report: at the address of `dolly reports`, which `dolly ui` starts too."""

from typing import Any
from urllib.parse import quote

import dagster as dg

from dolly_assets.core.environment import Environment
from dolly_assets.profiling.report.report import REPORT_FILE
from dolly_assets.storage.artifact import Artifact

DEFAULT_URL = "http://127.0.0.1:3001"


def report_link(path: str) -> str:
    """The URL of a page that the report server shows; `DOLLY_REPORTS_URL` says where that is reached."""
    url = Environment.read().reports_url or DEFAULT_URL
    return f"{url.rstrip('/')}/{quote(path)}"


def linked_report(artifact: Artifact) -> dict[str, Any]:
    """Metadata with the link to an artifact's report, if it has one."""
    if not artifact.holds(REPORT_FILE):
        return {}
    return {
        "report": dg.MetadataValue.url(
            report_link(f"{artifact.name}/{artifact.digest}/{REPORT_FILE}")
        )
    }
