"""Links from Dagster's UI to reports, which `dolly reports` serves; `dolly ui` starts it, too."""

import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

import dagster as dg

from dolly_assets.core.environment import REPORTS_URL, Environment
from dolly_assets.registry.pages import page_of
from dolly_assets.storage.artifact import Artifact

ANSWER_SECONDS = 2.0  # of a server on this machine


def report_link(path: str) -> str:
    """Return the URL of a page of the report server, whose address is `DOLLY_REPORTS_URL`."""
    url = Environment.read().reports_url or REPORTS_URL
    return f"{url}/{quote(path)}"


def opens(link: str) -> bool:
    """Return whether a link opens, as far as can be known here.

    An address of one's own may be reachable for browsers only, so that it is taken at its word.
    """
    if Environment.read().reports_url:
        return True
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(link, timeout=ANSWER_SECONDS):
            return True
    except (OSError, HTTPException):
        return False


def linked_report(artifact: Artifact) -> dict[str, Any]:
    """Return metadata with the link to an artifact's page, if it has one."""
    page = page_of(artifact)
    if not page:
        return {}
    link = report_link(f"{artifact.name}/{artifact.digest}/{page}")
    return {"report": dg.MetadataValue.url(link)}
