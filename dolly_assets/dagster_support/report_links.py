"""Links from Dagster's UI to reports, which `dolly reports` serves; `dolly ui` starts it, too."""

from typing import Any
from urllib.parse import quote

import dagster as dg

from dolly_assets.core.environment import Environment
from dolly_assets.profiling.report.report import REPORT_FILE
from dolly_assets.storage.artifact import Artifact

DEFAULT_URL = "http://127.0.0.1:3001"


def report_link(path: str) -> str:
    """Return the URL of a page of the report server, whose address is `DOLLY_REPORTS_URL`."""
    url = Environment.read().reports_url or DEFAULT_URL
    return f"{url.rstrip('/')}/{quote(path)}"


def linked_report(artifact: Artifact) -> dict[str, Any]:
    """Return metadata with the link to an artifact's report, if it has one."""
    if not artifact.holds(REPORT_FILE):
        return {}
    return {
        "report": dg.MetadataValue.url(
            report_link(f"{artifact.name}/{artifact.digest}/{REPORT_FILE}")
        )
    }
