"""Deploys, lets everything happen once, and prints the table."""

import argparse
import os
import re
import sys

import benchmarks.kubernetes_deployed as package
from benchmarks.kubernetes_demo.bench import Demo
from benchmarks.kubernetes_deployed import stages
from benchmarks.kubernetes_deployed.deployment import STORE, deployed, store_at
from benchmarks.kubernetes_deployed.stages import NAME, PODS, PREPARED, STAGES, Row
from dolly_assets_tests.kubernetes.real import GPU, NODES, PROGRAM, RealCluster
from dolly_assets_tests.kubernetes.real_hand import FEW_CPUS, RealHand


def main() -> int:
    """Deploy, run every stage and print the table."""
    parser = argparse.ArgumentParser(
        description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=70, help="long enough to be disturbed")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE")
    parser.add_argument("--cluster", metavar="PROGRAM", default=os.environ.get(PROGRAM))
    arguments = parser.parse_args()
    if not arguments.cluster:
        parser.error(f"a real cluster is needed: set {PROGRAM} or --cluster")
    os.environ[PROGRAM] = arguments.cluster
    cluster = RealCluster()
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    cluster.start()
    address = address_of(cluster)
    rows: list[Row] = []
    with store_at(address):
        size = arguments.records, arguments.epochs
        bench = Demo(RealHand(cluster), {}, *size, (NAME,), STORE, BOOKED, is_imported=False)
        with deployed(cluster, bench.home.path / "defs", address) as deployment:
            for name, stage in stages.all_of(bench, deployment).items():
                if name == PREPARED or name in arguments.stages:
                    rows.append(stage())
                    print_row(rows[-1])
    cluster.close()
    return int(not all(row.is_right for row in rows))


# Each pod books a GPU, with which it does nothing.
BOOKED = {
    "kubernetes": {
        "config": {"container_config": {"resources": {**FEW_CPUS, "limits": {GPU: "1"}}}}
    }
}


def address_of(cluster: RealCluster) -> str:
    """Return this machine's address in the network of the cluster's nodes."""
    [node] = (each for each in cluster.core.list_node().items if each.metadata.name == NODES[0])
    [address] = (each.address for each in node.status.addresses if each.type == "InternalIP")
    return re.sub(r"\d+$", "1", address)


def print_row(row: Row) -> None:
    """Print what came of a stage."""
    times = ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in row.seconds.items())
    print(f"## {row.title}: {'right' if row.is_right else 'WRONG'}; {times}", flush=True)
    for line in row.says:
        print(f"    {line}", flush=True)


if __name__ == "__main__":
    assert len(NODES) == PODS
    sys.exit(main())
