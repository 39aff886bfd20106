"""Rolls out, promotes under load, tries connections, and prints the table."""

import argparse
import os
import sys
import time
from urllib.parse import urlsplit

import benchmarks.kubernetes_serving as package
from benchmarks.kubernetes_demo.bench import DATASET, Demo, train
from benchmarks.kubernetes_deployed.__main__ import address_of, print_row
from benchmarks.kubernetes_deployed.deployment import STORE, STORE_PORT, seconds_until, store_at
from benchmarks.kubernetes_deployed.stages import Row
from benchmarks.kubernetes_serving.deployment import Serving, serving, variables
from benchmarks.kubernetes_serving.objects import manifests
from deploy.serving import NAME
from dolly_assets.dagster_support.partitions import partition_key
from dolly_assets.pipeline.rollout import ANNOTATION
from dolly_assets_tests.kubernetes.real import IMAGE, PROGRAM, RealCluster
from dolly_assets_tests.kubernetes.real_hand import RealHand

FAMILY = "one"
MODEL = f"{FAMILY}/{DATASET}"
API = "10.96.0.1:443"  # the first address of the Services' range, which is the API server's


def main() -> int:
    """Train, deploy, promote and print the table."""
    parser = argparse.ArgumentParser(
        description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=600)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--cluster", metavar="PROGRAM", default=os.environ.get(PROGRAM))
    arguments = parser.parse_args()
    if not arguments.cluster:
        parser.error(f"a real cluster is needed: set {PROGRAM} or --cluster")
    os.environ[PROGRAM] = arguments.cluster
    cluster = RealCluster()
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    cluster.start()
    address, rows = address_of(cluster), []
    with store_at(address):
        bench = Demo(RealHand(cluster), {}, arguments.records, 2, (FAMILY,), STORE)
        bench.prepare(FAMILY)
        train(bench.here, FAMILY, bench.epochs)
        first, last = (partition_key(DATASET, epoch) for epoch in (1, 2))
        bench.here.materialize([[FAMILY, "evaluation"]], first, last)
        promote(bench, 1)
        places = variables(address, STORE_PORT), address, api_port(cluster)
        everything = manifests(IMAGE, *places, MODEL)
        with serving(cluster, everything) as (servers, seconds):
            ready = {"ready": seconds}
            rows.append(Row("two servers rolled out", ready, [], len(servers.servers()) == 2))
            print_row(rows[-1])
            rows.append(under_load(bench, servers, arguments.clients))
            print_row(rows[-1])
            rows.append(closed(servers, address))
            print_row(rows[-1])
    cluster.close()
    return int(not all(row.is_right for row in rows))


def api_port(cluster: RealCluster) -> int:
    """Return the port of the API server, which its Service hides from pods, not from policies."""
    return urlsplit(cluster.core.api_client.configuration.host).port or 443


def promote(bench: Demo, epoch: int) -> None:
    """Have an epoch be the champion."""
    bench.home.dolly("promote", f"{MODEL}/{epoch}", "--to", "production", "--reason", "measured")


def under_load(bench: Demo, servers: Serving, clients: int) -> Row:
    """Promote the second epoch while clients ask, and wait until its pods have replaced others."""
    before = {each.metadata.name for each in servers.servers()}
    template = ("get", "deploy", NAME, "-o", "jsonpath={.spec.template.metadata.annotations}")
    # The first minute's rollout writes the digest of what is served already.
    seconds_until(lambda: ANNOTATION in servers.kubectl(*template))
    servers.wait_for_rollout()
    seconds_until(lambda: len(servers.servers()) == 2)
    settled = {each.metadata.name for each in servers.servers()}
    annotated = servers.kubectl(*template)
    with servers.clients(f"{MODEL}/champion", clients) as seen:
        began = time.monotonic()
        promote(bench, 2)
        promoted = time.monotonic()
        seconds_until(lambda: servers.kubectl(*template) != annotated)
        restarted = time.monotonic()
        servers.wait_for_rollout()
        rolled = time.monotonic()
        seconds_until(lambda: not settled & {each.metadata.name for each in servers.servers()})
        gone = time.monotonic()
    answers, lost = seen["whole"], seen["lost"]
    says = [
        f"{sum(answers.values())} answers streamed whole to {clients} clients, {len(lost)} lost",
        *(f"{count} by {digest[:12]}" for digest, count in answers.items()),
        f"the slowest answer took {seen['longest']:.1f} s",
        *sorted({*lost})[:8],
    ]
    seconds = {
        "restart asked for": restarted - promoted,
        "new pods ready": rolled - restarted,
        "former pods gone": gone - rolled,
        "all": gone - began,
    }
    is_right = not lost and len(answers) == 2 and not settled & before
    return Row("promoted under load", seconds, says, is_right)


def closed(servers: Serving, address: str) -> Row:
    """Try who reaches a server, and whom a server reaches."""
    began = time.monotonic()
    server = f"{servers.servers()[0].status.pod_ip}:8000"
    other = servers.listen("default/listener", 8080)
    store = f"{address}:{STORE_PORT}"
    reached = servers.reached_by_server(store, other, API)
    found = {
        "a pod of another namespace": servers.reached_by("default/stranger", server, other, API),
        "a pod of its namespace": servers.reached_by(f"{NAME}/neighbour", server),
        "a server": reached,
    }
    expected = {
        "a pod of another namespace": [other, API],
        "a pod of its namespace": [server],
        "a server": [store],
    }
    words = {server: "a server", other: "a pod elsewhere", store: "the store", API: "the API"}
    says = [
        f"{who} reaches {', '.join(words[each] for each in places) or 'nothing'}"
        for who, places in found.items()
    ]
    servers.kubectl("delete", "pod", "listener", "stranger", "-n", "default")
    seconds = {"tried": time.monotonic() - began}
    return Row("connections", seconds, says, found == expected)


if __name__ == "__main__":
    sys.exit(main())
