"""Ends that only real nodes, kubelets and a control plane bring about."""

import time
from collections.abc import Callable

from benchmarks.kubernetes_ends.anywhere import AGAIN, ONCE
from benchmarks.kubernetes_ends.stage import End, Stage
from dolly_assets.launchers.kubernetes.renewal import WORKED_SECONDS
from dolly_assets_tests.kubernetes.real_hand import FAKETIME, RealHand

Act = Callable[[Stage[RealHand]], str]
# Kubernetes ends the pods of a node that does not answer after 300 s, if they don't say otherwise.
SOON = [
    {"key": f"node.kubernetes.io/{what}", "effect": "NoExecute", "operator": "Exists"}
    | {"toleration_seconds": 5}
    for what in ("unreachable", "not-ready")
]
MOVES_SOON = {"kubernetes": {"config": {"pod_spec_config": {"tolerations": SOON}}}}
OFF = "node.kubernetes.io/out-of-service"
AWAY_SECONDS = 20.0  # of a node


def disturbed(how: Callable[[RealHand], object], nodes: int = 1) -> Act:
    """Disturb what should leave the training alone, for a while."""

    def end(stage: Stage[RealHand]) -> str:
        training = stage.in_epoch_2(compute={"nodes": nodes})
        stage.now()
        how(stage.hand)
        time.sleep(AWAY_SECONDS)  # nothing is to happen, so there is nothing to await
        stage.remove()
        return stage.completes(training)

    return end


def disrupted(
    how: Callable[[RealHand], object], nodes: int = 1, worked_seconds: float = 0.0
) -> Act:
    """Disrupt the last pod, and leave the cluster as it is until the training is back."""

    def end(stage: Stage[RealHand]) -> str:
        training = stage.in_epoch_2(compute={"nodes": nodes})
        time.sleep(worked_seconds)  # they are at work
        stage.now()
        how(stage.hand)
        return stage.resumes(training)

    return end


def crash_and_return(stage: Stage[RealHand]) -> str:
    """Crash the node, and start it again after a while."""
    training = stage.in_epoch_2(compute={"nodes": 2})
    stage.now()
    stage.hand.on_node("crash", undo="node")
    stage.hears("does not answer")
    stage.remove()
    return stage.resumes(training)


def crash_for_good(how: Callable[[RealHand, str], object], nodes: int) -> Act:
    """Crash the node, and do what the run says as soon as it says so."""

    def end(stage: Stage[RealHand]) -> str:
        training = stage.in_epoch_2(compute={"nodes": nodes, **MOVES_SOON})
        stage.now()
        node = stage.hand.on_node("crash", undo="node")
        stage.hears("kubectl delete node")
        how(stage.hand, node)
        stage.removed = time.monotonic()
        return stage.resumes(training)

    return end


def forced_while_saving(stage: Stage[RealHand]) -> str:
    """Delete a pod by force that saves for longer than it may."""
    training = stage.in_epoch_2()
    training.hold_saving()
    stage.now()
    stage.hand.force_delete()
    stage.wait(lambda: training.times("begun", 2) > 1)
    training.let_save()
    return stage.resumes(training)


def spared_by_a_budget(stage: Stage[RealHand]) -> str:
    """Kill one of two pods, while a PodDisruptionBudget spares the other from evictions."""
    from kubernetes import client

    policy = client.PolicyV1Api(stage.hand.cluster.core.api_client)
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"dolly-assets/family": "tiny"}}}
    budget = {"metadata": {"name": "spare-trainings"}, "spec": spec}
    policy.create_namespaced_pod_disruption_budget(stage.hand.cluster.namespace, budget)
    training = stage.in_epoch_2(compute={"nodes": 2})
    stage.now()
    training.fail(2, "137")
    return stage.resumes(training)


def suspended(stage: Stage[RealHand]) -> str:
    """Suspend the Job and resume it, as an administrator does."""
    training = stage.in_epoch_2()
    stage.now()
    stage.hand.patch_job({"suspend": True})
    stage.hears("the Job is suspended")
    stage.hand.patch_job({"suspend": False})
    stage.removed = time.monotonic()
    return stage.resumes(training)


def without_a_scheduler(stage: Stage[RealHand]) -> str:
    """Kill scheduler and controller manager, and evict the pod meanwhile."""
    training = stage.in_epoch_2()
    stage.now()
    stage.hand.kill_control_plane("kube-scheduler", "kube-controller-manager")
    stage.hand.evict()
    time.sleep(AWAY_SECONDS)
    stage.remove()
    return stage.resumes(training)


def forbidden_pods(stage: Stage[RealHand]) -> str:
    """Train in a namespace whose PodSecurity level refuses the pods."""
    core, namespace = stage.hand.cluster.core, stage.hand.cluster.namespace
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    core.patch_namespace(namespace, level)
    training = stage.training()  # its volume is a folder of the node
    stage.now()
    training.start()
    stage.hears("PodSecurity")
    level["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "privileged"}
    core.patch_namespace(namespace, level)
    stage.removed = time.monotonic()
    stage.is_back(training, epoch=1, times=1)
    return stage.completes(training)


def compacted(stage: Stage[RealHand]) -> str:
    """Compact etcd while the API server is down, and evict the pod when it is back."""
    training = stage.in_epoch_2()
    stage.now()
    stage.hand.compact()
    stage.hand.evict()
    stage.removed = time.monotonic()
    return stage.resumes(training)


def namespace_deleted(stage: Stage[RealHand]) -> str:
    """Delete the namespace in the second epoch."""
    training = stage.in_epoch_2()
    stage.now()
    stage.hand.delete_namespace()
    return stage.end(training)


def namespace_gone(stage: Stage[RealHand]) -> str:
    """Do so, and request the rest of the training."""
    namespace_deleted(stage)
    again = stage.training(owner=AGAIN, epochs=(2, 3))
    stage.now()
    again.start()
    return stage.end(again)


def disk_full(stage: Stage[RealHand]) -> str:
    """Let the worker write more than its disk holds."""
    folder = stage.hand.small_disk()
    training = stage.in_epoch_2()
    stage.now()
    training.fail(2, folder)
    return stage.end(training)


def clocks_apart(minutes: int) -> Act:
    """Evict one of two pods whose nodes' clocks are wrong."""

    def end(stage: Stage[RealHand]) -> str:
        stage.hand.shift_clocks(minutes)
        return disrupted(RealHand.evict, 2)(stage)

    return end


def restarted_together(stage: Stage[RealHand]) -> str:
    """Restart the kubelet of every node and the API server at once, with two pods at work."""
    training = stage.in_epoch_2(compute={"nodes": 2})
    stage.now()
    for node in {pod.spec.node_name for pod in stage.hand.workers()}:
        stage.hand.cluster.command("kubelet", node)
    stage.hand.kill_control_plane("kube-apiserver")
    stage.remove()
    return stage.completes(training)


ENDS: list[End[RealHand]] = [
    End("node drained", disrupted(RealHand.drain), ONCE, r"was evicted \("),
    End("node drained, of two", disrupted(RealHand.drain, 2), ONCE, r"was evicted \("),
    *(
        End(
            f"pod evicted, of {nodes}, after a minute's work",
            disrupted(RealHand.evict, nodes, WORKED_SECONDS + 1),
            ONCE,
            r"was evicted \(",
        )
        for nodes in (4, 8)
    ),
    End("node cordoned", disturbed(RealHand.cordon), r"^done$", None),
    End(
        "node tainted NoExecute",
        disrupted(lambda hand: hand.taint(hand.node, "test")),
        ONCE,
        r"was moved from a node",
    ),
    End(
        "pod deleted by force",
        disrupted(RealHand.force_delete),
        ONCE,
        r"(disappeared|was deleted|code 75)",
    ),
    End("deleted by force while it saves", forced_while_saving, ONCE, r"(disappeared|killed)"),
    End("one of two killed, PDB", spared_by_a_budget, ONCE, r"together with the others"),
    End("node rebooted, of two", disrupted(RealHand.reboot, 2), ONCE, r"has restarted \("),
    End("node crashed, back later", crash_and_return, ONCE, r"does not answer: "),
    End(
        "node crashed for good, node deleted",
        crash_for_good(lambda hand, node: hand.cluster.core.delete_node(node), 1),
        ONCE,
        r"is not replaced before its node .*kubectl delete node",
    ),
    End(
        "node crashed for good, of four",
        crash_for_good(lambda hand, node: hand.cluster.core.delete_node(node), 4),
        ONCE,
        r"is not replaced before its node .*kubectl delete node",
    ),
    End(
        "node crashed for good, out of service",
        crash_for_good(lambda hand, node: hand.taint(node, OFF), 1),
        ONCE,
        r"is not replaced before its node .*kubectl delete node",
    ),
    End(
        "node frozen",
        disturbed(lambda hand: hand.on_node("freeze", undo="thaw"), 2),
        r"^done$",
        r"does not answer: ",
    ),
    End(
        "cable pulled, two pods",
        disturbed(lambda hand: hand.on_node("cut", undo="join"), 2),
        r"^done$",
        r"does not answer: ",
    ),
    End("kubelet restarted", disturbed(lambda hand: hand.on_node("kubelet"), 2), r"^done$", None),
    End(
        "API server killed",
        disturbed(lambda hand: hand.kill_control_plane("kube-apiserver")),
        r"^done$",
        None,
    ),
    End("etcd killed", disturbed(lambda hand: hand.kill_control_plane("etcd")), r"^done$", None),
    End("kubelets and API server at once", restarted_together, r"^done$", None),
    End("no scheduler, no controllers", without_a_scheduler, ONCE, r"was evicted \("),
    End("etcd compacted, pod evicted", compacted, ONCE, r"was evicted \("),
    End("namespace deleted", namespace_deleted, r"^stopped$", r"is being deleted, with .*epoch 2"),
    End("namespace deleted, requested again", namespace_gone, r"^failed$", r"correct `namespace`"),
    End("disk full", disk_full, r"^failed$", r"no space left on the disk of .*ephemeral_storage"),
    End("Job suspended and resumed", suspended, ONCE, r"the Job is suspended"),
    End("waits: PodSecurity", forbidden_pods, r"^done$", r"violates PodSecurity"),
    *(
        End(f"clocks apart by {minutes:+} min, of two", clocks_apart(minutes), ONCE, r"was evicted")
        for minutes in (10, -10)
        if FAKETIME.exists()
    ),
]
