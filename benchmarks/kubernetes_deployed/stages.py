"""What happens to trainings of a deployment, and what users see of it.

It knows one family, whose trainings it starts in the UI, and not how the deployment was made.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dagster._core.storage.tags import PARTITION_NAME_TAG

from benchmarks.kubernetes_demo import ui
from benchmarks.kubernetes_demo.bench import DATASET, Demo
from benchmarks.kubernetes_deployed.deployment import STORE, Deployment, seconds_until
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.ui.browser import browser
from dolly_assets_tests.ui.server import Server

NAME = "two_pods"
PREPARED = "prepared"
STAGES = ("doctor", "terminated", "re_executed", "job_deleted", "orphaned", "collected")
PODS = 2
LOOK_SECONDS = 0.2
NO_RETRIES = {"dagster/max_retries": "0"}  # so that nobody but the user executes a run again
PARTITIONS = """
{ assetNodes(assetKeys: [{path: ["raw_dataset"]}]) { partitionKeys } }
"""
LOG = """
query Log($run: ID!, $cursor: String) {
  logsForRun(runId: $run, afterCursor: $cursor, limit: 1000) {
    ... on EventConnection { cursor hasMore events { ... on MessageEvent { message timestamp }
      ... on ErrorEvent { error { message cause { message } } } } }
  }
}
"""
RETRIES = """
query Retries($run: String!) {
  runsOrError(filter: {tags: [{key: "dagster/parent_run_id", value: $run}]}) {
    ... on Runs { results { runId } }
  }
}
"""
TICKS = """
query Ticks($selector: SensorSelector!) {
  sensorOrError(sensorSelector: $selector) {
    ... on Sensor { sensorState { ticks(limit: 5) { status skipReason timestamp } } }
  }
}
"""


@dataclass(frozen=True)
class Row:
    """What was done, and what came of it.

    Attributes:
        title: What happened to a training.
        seconds: What was measured, in words, and how long it took.
        says: What users read.
        is_right: Whether it ended as it should.
    """

    title: str
    seconds: dict[str, float]
    says: list[str]
    is_right: bool


@dataclass
class Watch:
    """Looks at the training's pods meanwhile: never may two pods of one rank run at once.

    Attributes:
        most: The most pods of trainings that were there at once.
        jobs: All Jobs that were seen.
    """

    deployment: Deployment

    def __post_init__(self) -> None:
        self.most, self.jobs = 0, set[str]()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self.most = max(self.most, len(self.deployment.trainers()))
            self.jobs |= set(self.deployment.jobs())


@dataclass
class Stages:
    """The trainings of one family, one after the other.

    Attributes:
        bench: Its home and store, whose process is not the deployment's.
        deployment: Where it trains.
    """

    bench: Demo
    deployment: Deployment

    def prepared(self) -> Row:
        """Have the deployment make what the training needs, from a dataset that was added."""
        server, seconds = self.deployment.server, {}

        def is_known() -> bool:
            return any(DATASET in node["partitionKeys"] for node in _asked_assets(server))

        seconds["dataset can be chosen"] = seconds_until(is_known)
        of_dataset = {PARTITION_NAME_TAG: DATASET}
        for assets, tags in (
            ([["raw_dataset"]], of_dataset),
            ([[NAME, "base_model"]], {}),
            ([[NAME, "tokenized_dataset"], [NAME, "training_plan"]], of_dataset),
        ):
            run = ui.materialize(server, assets, tags)
            seconds[assets[0][-1]] = self._ends(run, {"SUCCESS"}, time.monotonic())
        return Row("prepared in the UI", seconds, [], min(seconds.values()) >= 0)

    def terminated(self) -> Row:
        """Press the button "Terminate" of a training's run in the UI."""
        run, before = self._in_epoch_2()
        with browser(self.deployment.server.url, self.bench.hand.folder) as page:
            page.open(f"/runs/{run}")
            page.ask_to_terminate()
            began = time.monotonic()
            free = seconds_until(self._is_free)
            canceled = self._ends(run, {"CANCELED"}, began)
            page.sees("Canceled")
        log = self.log(run)
        seconds = {"Job gone, GPUs free": free, "CANCELED": canceled}
        says = _matching(log, r"stopping Job|stopped at|Run is canceled|canceled|interrupted")
        right = self._published(before)[0] == 1 and canceled > 0
        return Row("terminated in the UI", seconds, says, right)

    def killed_and_executed_again(self) -> Row:
        """Kill a run's pod, and re-execute the run in the UI while its Job goes on."""
        run, before = self._in_epoch_2()
        with Watch(self.deployment) as watch:
            failed = self._kill(run)
            still = len(self.deployment.trainers())
            again = ui.again(self.deployment.server, run)
            began = time.monotonic()
            attached = seconds_until(lambda: bool(_matching(self.log(again), "already do")))
            done = self._ends(again, {"SUCCESS"}, began)
        says = _matching(self.log(run), "^Detected run worker") + _matching(
            self.log(again), "^Job "
        )
        seconds = {"FAILURE": failed, "attached": attached, "SUCCESS": done}
        right = (
            self._published(before) == [1] * len(self.bench.epochs)
            and (watch.most, still, len(watch.jobs)) == (PODS, PODS, 1)
            and done > 0
        )
        return Row("its run's pod killed, re-executed in the UI", seconds, says, right)

    def killed_with_its_job(self) -> Row:
        """Kill a run's pod and delete its Job: the daemon retries, which resumes."""
        run, before = self._in_epoch_2(retries=True)
        with Watch(self.deployment) as watch:
            began = time.monotonic()
            [job] = self.deployment.jobs()
            self.deployment.kill_run(run)
            self.deployment.kubectl(
                "-n", "dolly-training", "delete", "job", job, "--cascade=background"
            )
            retried = seconds_until(lambda: bool(self._retries(run)))
            [again] = self._retries(run)
            done = self._ends(again, {"SUCCESS"}, began)
        says = _matching(self.log(again), r"^Job |waiting for|resum")
        times = sorted({*self._published(before)})
        says.append(f"at most {watch.most} pods at once; epochs published {times} times")
        seconds = {"retried by the daemon": retried, "SUCCESS": done}
        right = (
            self._published(before) == [1] * len(self.bench.epochs)
            and watch.most == PODS
            and done > 0
        )
        return Row("its run's pod killed and its Job deleted", seconds, says, right)

    def orphaned(self) -> Row:
        """Kill a run's pod, and never re-execute the run: the sensor ends its Job."""
        run, before = self._in_epoch_2()
        failed = self._kill(run)
        was_there = len(self.deployment.trainers()) == PODS
        began = time.monotonic()
        tick = seconds_until(lambda: bool(self._orphan_ticks()))
        free = seconds_until(self._is_free)
        says = self._orphan_ticks()
        right = was_there and self._published(before)[0] == 1
        seconds = {"FAILURE": failed, "deleted": tick, "GPUs free": time.monotonic() - began}
        return Row("its run killed for good", seconds, says, right and free >= 0)

    def log(self, run: str) -> list[str]:
        """Return the lines of a run's log, and the errors in it."""
        lines, cursor, has_more = [], None, True
        while has_more:
            page = self.deployment.server.ask(LOG, run=run, cursor=cursor)["logsForRun"]
            for event in page["events"]:
                lines.append(event.get("message") or "")
                error = event.get("error")
                while error:
                    lines.append(error["message"])
                    error = error.get("cause")
            cursor, has_more = page["cursor"], page["hasMore"]
        return lines

    def _in_epoch_2(self, *, retries: bool = False) -> tuple[str, list[int]]:
        """Start a training of all epochs; the run, and how often each was published before."""
        before = [self.bench.count(NAME, epoch) for epoch in self.bench.epochs]
        is_in_epoch_2 = self.bench.in_epoch_2(NAME)
        tags = {} if retries else NO_RETRIES
        run = ui.launch(self.deployment.server, NAME, self.bench.epochs, tags)
        seconds = seconds_until(is_in_epoch_2)
        print(f"{run} is in epoch 2 after {seconds:.0f} s", flush=True)
        return run, before

    def _published(self, before: list[int]) -> list[int]:
        """Return how often each epoch has been published since."""
        epochs = zip(self.bench.epochs, before, strict=True)
        return [self.bench.count(NAME, epoch) - count for epoch, count in epochs]

    def _kill(self, run: str) -> float:
        """Kill a run's pod, and wait until the run has failed: after how many seconds."""
        began = time.monotonic()
        self.deployment.kill_run(run)
        return self._ends(run, {"FAILURE"}, began)

    def _ends(self, run: str, expected: set[str], began: float) -> float:
        """Wait for the end of a run: the seconds since then; negative if it is another one."""
        ended = {"SUCCESS", "FAILURE", "CANCELED"}
        seconds_until(lambda: ui.status(self.deployment.server, run) in ended)
        found = ui.status(self.deployment.server, run)
        seconds = time.monotonic() - began
        if found not in expected:
            print(f"{run}: {found}", *self.log(run)[-30:], sep="\n", flush=True)
        return seconds if found in expected else -seconds

    def _is_free(self) -> bool:
        return not self.deployment.jobs() and not self.deployment.trainers()

    def _retries(self, run: str) -> list[str]:
        found = self.deployment.server.ask(RETRIES, run=run)["runsOrError"]["results"]
        return [each["runId"] for each in found]

    def _orphan_ticks(self) -> list[str]:
        """Return what the sensor `orphaned_jobs` said when it deleted something."""
        [repository] = self.deployment.server.ask(ui.LOCATIONS)["repositoriesOrError"]["nodes"]
        selector = {
            "repositoryName": repository["name"],
            "repositoryLocationName": repository["location"]["name"],
            "sensorName": "orphaned_jobs",
        }
        state = self.deployment.server.ask(TICKS, selector=selector)["sensorOrError"]["sensorState"]
        found = [tick["skipReason"] or tick["status"] for tick in state["ticks"]]
        return [text for text in found if "deleted" in text or text == "FAILURE"]


def _matching(lines: list[str], pattern: str) -> list[str]:
    """Return the first lines of messages in which a pattern is found, each once."""
    found = [line.strip().split("\n")[0] for line in lines if re.search(pattern, line)]
    return list(dict.fromkeys(found))


def _asked_assets(server: Server) -> list[dict[str, Any]]:
    return server.ask(PARTITIONS)["assetNodes"]


def collected(bench: Demo, deployment: Deployment) -> Row:
    """Run the collector's CronJob now, and wait for its end: the policy lets older states go."""
    objects = ObjectStore(STORE)
    before, began = len(objects.keys("blobs")), time.monotonic()
    make = ("create", "job", "--from=cronjob/dolly-collector", "collect-now")
    deployment.kubectl("-n", "dagster", *make)
    ended = "jsonpath={.status.conditions[*].type}"

    def is_over() -> bool:
        found = deployment.kubectl("-n", "dagster", "get", "job", "collect-now", "-o", ended)
        return "Complete" in found or "Failed" in found

    seconds_until(is_over)
    found = deployment.kubectl("-n", "dagster", "get", "job", "collect-now", "-o", ended)
    says = deployment.kubectl("-n", "dagster", "logs", "job/collect-now").splitlines()
    seconds = {"ended": time.monotonic() - began}
    after = len(objects.keys("blobs"))
    damaged = [one for one in bench.here.store.verify() if one.damaged]
    says = [*says[-3:], f"{before} blobs before, {after} after; {len(damaged)} artifacts damaged"]
    right = "Complete" in found and after < before and not damaged
    return Row("garbage collected by the CronJob", seconds, says, right)


def checked(deployment: Deployment) -> Row:
    """Run `dolly doctor --kubernetes` in the code location's pod."""
    began = time.monotonic()
    says = deployment.in_code_location("dolly", "doctor", "--kubernetes").splitlines()
    is_right = not any(line.startswith(("FAILED", "problem")) for line in says)
    return Row("doctor", {"answered": time.monotonic() - began}, says, is_right)


def all_of(bench: Demo, deployment: Deployment) -> dict[str, Callable[[], Row]]:
    """Return everything by name, in order."""
    stages = Stages(bench, deployment)
    found = (
        lambda: checked(deployment),
        stages.terminated,
        stages.killed_and_executed_again,
        stages.killed_with_its_job,
        stages.orphaned,
        lambda: collected(bench, deployment),
    )
    return {PREPARED: stages.prepared, **dict(zip(STAGES, found, strict=True))}
