"""Links from Dagster's UI to reports and to the playground.

`dolly reports` serves the first, which `dolly ui` starts too; `dolly playground` the second.
"""

import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

import dagster as dg

from dolly_assets.core.environment import Environment
from dolly_assets.core.urls import PLAYGROUND_URL, REPORTS_URL
from dolly_assets.registry.pages import page_of
from dolly_assets.storage.artifact import Artifact

ANSWER_SECONDS = 2.0  # of a server on this machine


def report_link(path: str) -> str:
    """Return the URL of a page of the report server, whose address is `DOLLY_REPORTS_URL`."""
    url = Environment.read().reports_url or REPORTS_URL
    return f"{url}/{quote(path)}"


def live_report(link: str, family: str, dataset: str, epoch: int) -> str:
    """Return the line that tells where a live report is seen: the link, if it opens."""
    if _opens(link):
        return f"live report: {link}"
    return (
        f"live report: start `dolly ui` or `dolly reports`, then open {link}; after the epoch: "
        f"dolly profile open --model {family} --dataset {dataset} --epoch {epoch}"
    )


def _opens(link: str) -> bool:
    """Return whether a link opens, as far as can be known here.

    An address that the user has set may be reachable for browsers only, and is not tried.
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


def playground_link(family: str, dataset: str) -> dict[str, dg.MetadataValue]:
    """Return metadata with the page on which the champion answers."""
    url = Environment.read().playground_url or PLAYGROUND_URL
    asked = urlencode({"model": f"{family}/{dataset}/champion"}, safe="/")
    return {"playground": dg.MetadataValue.url(f"{url}/?{asked}")}
