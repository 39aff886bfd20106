"""Alerts: what users should learn of without looking for it.

They are always logged, and posted to the URLs of `DOLLY_ALERTS`. What calls for an alert is the
business of the sensors.

| URL | what is posted |
| --- | --- |
| `https://…` | the alert as JSON: kind, title, text, at |
| `slack+https://…` | `{"text": …}`, the format of Slack's and Mattermost's incoming webhooks |
"""

import html
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, SecretStr

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError

LOG = logging.getLogger(__name__)
SLACK = "slack+"
TIMEOUT_SECONDS = 10

AlertKind = Literal[
    "run_failed", "check_failed", "late", "champion_changed", "approval_needed", "dataset_refused"
]


class Alert(Config):
    """Something that users should learn of."""

    kind: AlertKind
    title: str = Field(description="What happened, on one line.")
    text: str = Field(default="", description="The details, and what to do.")
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Alerts:
    """Sends alerts; one that cannot be delivered is logged, and fails no run.

    It is a resource without configuration, because Dagster shows a resource's configuration to all
    users of its UI and keeps it with every run, and who knows the URL of a webhook can post to it.

    Args:
        urls: The URLs that alerts are posted to, besides the log.

    Raises:
        ConfigurationError: An entry is not a URL.
    """

    def __init__(self, urls: Sequence[SecretStr] = ()) -> None:
        self._urls = tuple(urls)
        for number, url in enumerate(self._urls, 1):
            if not _address(url).startswith(("https://", "http://")):
                raise ConfigurationError(
                    f"DOLLY_ALERTS: entry {number} is not a URL: expected https://… or "
                    "slack+https://…, separated by spaces"
                )

    def send(self, alert: Alert) -> None:
        """Log an alert, and post it to every URL."""
        LOG.warning("%s: %s. %s", alert.kind, alert.title, alert.text)
        for number, url in enumerate(self._urls, 1):
            try:
                _post(url, alert)
            except Exception as error:  # noqa: BLE001 what is not caught is logged with the URL
                LOG.error(
                    "alert %r was not delivered to URL %d of DOLLY_ALERTS: %s",
                    alert.title,
                    number,
                    type(error).__name__,
                )


def _post(url: SecretStr, alert: Alert) -> None:
    import requests

    # At DEBUG it logs the path of every request, which is the secret of a webhook.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
    is_slack = url.get_secret_value().startswith(SLACK)
    body = (
        {"text": f"*{_slack_text(alert.title)}*\n{_slack_text(alert.text)}".strip()}
        if is_slack
        else alert.model_dump(mode="json")
    )
    requests.post(_address(url), json=body, timeout=TIMEOUT_SECONDS).raise_for_status()


def _address(url: SecretStr) -> str:
    return url.get_secret_value().removeprefix(SLACK)


def _slack_text(text: str) -> str:
    """Escape what Slack reads as a link or as a call of everybody, such as `<!channel>`."""
    return html.escape(text, quote=False)
