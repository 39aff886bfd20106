"""Alerts of real runs in Dagster: the sensors read their events, and a web server listens."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from dolly_assets.automation.alert_sensors import build_alert_sensors
from dolly_assets.automation.alerts import Alert, Alerts
from dolly_assets.core.errors import ConfigurationError


def alerts_to(*urls: str) -> Alerts:
    return Alerts([SecretStr(url) for url in urls])


ALERT = Alert(kind="champion_changed", title="demo has a new champion", text="epoch 3 is promoted")


class Listener(ThreadingHTTPServer):
    """Keeps what is posted to it; answers what is posted to /broken with an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted: list[tuple[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Listener)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, json.loads(body)))
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_an_alert_is_posted_whole_and_as_slack_takes_it(listener: Listener) -> None:
    alerts_to(f"{listener.url}/hook", f"slack+{listener.url}/slack").send(ALERT)
    (path, whole), (slack_path, slack) = listener.posted
    assert (path, slack_path) == ("/hook", "/slack")
    assert whole == ALERT.model_dump(mode="json")
    assert slack == {"text": "*demo has a new champion*\nepoch 3 is promoted"}


def test_an_alert_that_cannot_be_delivered_is_logged_and_the_others_are(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    nobody = "http://127.0.0.1:9/secret-token"
    nowhere = f"http://{'x' * 70}.example/secret-token"
    hook = f"{listener.url}/hook-secret-token"
    alerts_to(nobody, f"{listener.url}/broken", nowhere, hook).send(ALERT)
    assert [path for path, _ in listener.posted] == ["/broken", "/hook-secret-token"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert all(
        f"to URL {number} of DOLLY_ALERTS" in error for number, error in enumerate(errors, 1)
    )
    assert "secret-token" not in caplog.text, "the URL of a webhook is a password"
    assert ALERT.title in caplog.text


def test_the_text_of_an_alert_links_nothing_and_calls_nobody_in_slack(listener: Listener) -> None:
    alert = Alert(kind="dataset_refused", title="<!channel>", text="<https://evil.example|log in>")
    alerts_to(f"slack+{listener.url}").send(alert)
    [(_, slack)] = listener.posted
    assert slack == {"text": "*&lt;!channel&gt;*\n&lt;https://evil.example|log in&gt;"}


def test_a_url_that_cannot_be_posted_to_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="entry 2 is not a URL") as refused:
        alerts_to("https://one.example", "hooks.example/secret-token")
    assert "secret-token" not in str(refused.value)


def test_a_failed_run_a_failed_check_and_a_new_champion_are_alerted_on(listener: Listener) -> None:
    @dg.asset(
        check_specs=[
            dg.AssetCheckSpec("clean", asset="data"),
            dg.AssetCheckSpec("fair", asset="data"),
        ]
    )
    def data() -> Iterator[Any]:
        yield dg.MaterializeResult()
        error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
        yield dg.AssetCheckResult(
            passed=False, check_name="clean", severity=error, description="3 records are empty"
        )
        yield dg.AssetCheckResult(passed=False, check_name="fair", severity=warn)

    @dg.asset(key=["tiny", "champion_model"])
    def champion() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            metadata={"verdict": "promoted", "reason": "exact match 0.9 against 0.1"}
        )

    @dg.asset(key=["calm", "champion_model"])
    def candidate() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            metadata={"verdict": "awaiting approval", "reason": "epoch 2 awaits approval"}
        )

    @dg.asset(deps=[data])
    def broken() -> None:
        raise ValueError("no such thing")

    with dg.DagsterInstance.ephemeral() as instance:
        alerts = {"alerts": alerts_to(listener.url)}
        on_success, on_failure, _ = build_alert_sensors(is_on=True)
        for assets, sensor in (([data, champion, candidate], on_success), ([broken], on_failure)):
            result = dg.materialize(assets, instance=instance, raise_on_error=False)
            end = "PIPELINE_SUCCESS" if result.success else "PIPELINE_FAILURE"
            [event] = [event for event in result.all_events if event.event_type_value == end]
            context = dg.build_run_status_sensor_context(
                sensor_name=sensor.name,
                dagster_instance=instance,
                dagster_run=result.dagster_run,
                dagster_event=event,
            )
            sensor(context if result.success else context.for_run_failure(), **alerts)
    alerts = {alert["kind"]: alert for _, alert in listener.posted}
    kinds = {"check_failed", "champion_changed", "approval_needed", "run_failed"}
    assert set(alerts) == kinds, "a warning is no alert"
    assert alerts["approval_needed"]["text"].startswith("epoch 2 awaits approval. Run: dolly ")
    assert alerts["check_failed"]["title"] == "clean failed on data"
    assert alerts["check_failed"]["text"] == "3 records are empty"
    assert alerts["champion_changed"]["text"] == "exact match 0.9 against 0.1"
    assert "no such thing" in alerts["run_failed"]["text"]
