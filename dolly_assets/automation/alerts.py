"""Alerts: what users should learn of without looking for it.

They are always logged, and posted to the URLs of `DOLLY_ALERTS`. What calls for an alert is the
business of the sensors.

| URL | what is posted |
| --- | --- |
| `https://…` | the alert as JSON: kind, title, text, at |
| `slack+https://…` | `{"text": …}`, the format of Slack's and Mattermost's incoming webhooks |
"""

import logging
from datetime import UTC, datetime
from typing import Literal

import dagster as dg
from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError

LOG = logging.getLogger(__name__)
SLACK = "slack+"
TIMEOUT_SECONDS = 10

AlertKind = Literal["run_failed", "check_failed", "late", "champion_changed", "dataset_refused"]


class Alert(Config):
    """Something that users should learn of."""

    kind: AlertKind
    title: str = Field(description="What happened, on one line.")
    text: str = Field(default="", description="The details, and what to do.")
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class AlertsResource(dg.ConfigurableResource):
    """Sends alerts; one that cannot be delivered is logged, and fails no run."""

    urls: list[str] = Field(
        default=[], description="URLs that alerts are posted to, besides the log."
    )

    def send(self, alert: Alert) -> None:
        """Log an alert, and post it to every URL."""
        import requests

        LOG.warning("%s: %s. %s", alert.kind, alert.title, alert.text)
        for number, url in enumerate(self.urls, 1):
            try:
                _post(url, alert)
            except requests.RequestException as error:
                # The URL is a secret: neither it nor the error's text is logged.
                LOG.error(
                    "alert %r was not delivered to URL %d of DOLLY_ALERTS: %s",
                    alert.title,
                    number,
                    type(error).__name__,
                )


def check_urls(urls: tuple[str, ...]) -> list[str]:
    """Return the URLs, after checking that each can be posted to.

    Raises:
        ConfigurationError: An entry is not a URL.
    """
    for number, url in enumerate(urls, 1):
        if not url.removeprefix(SLACK).startswith(("https://", "http://")):
            raise ConfigurationError(
                f"DOLLY_ALERTS: entry {number} is not a URL: expected https://… or "
                "slack+https://…, separated by spaces"
            )
    return list(urls)


def _post(url: str, alert: Alert) -> None:
    import requests

    is_slack = url.startswith(SLACK)
    body = (
        {"text": f"*{alert.title}*\n{alert.text}".strip()}
        if is_slack
        else alert.model_dump(mode="json")
    )
    requests.post(url.removeprefix(SLACK), json=body, timeout=TIMEOUT_SECONDS).raise_for_status()
