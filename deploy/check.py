"""`make deploy-check`: checks deploy/ as far as possible without cluster, registry and network.

Each check yields its problems, one line each, and returns a phrase on what it has checked.
"""

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy import chart, instance, pin, pods, policies, reports, rights, serving
from dolly_assets.core.environment import Environment
from dolly_assets.core.text import one_line
from dolly_assets.doctor.limits import over_limits, over_quota
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.pipeline.declared import read_declared

DEPLOY = Path(__file__).parent
PROJECT = DEPLOY.parent
KUBERNETES = DEPLOY / "kubernetes"
KUBERNETES_VERSION = "1.35"
# API groups of other projects, whose schemas are not part of Kubernetes.
FOREIGN_GROUPS = (
    "kueue.x-k8s.io",
    "karpenter.sh",
    "karpenter.k8s.aws",
    "keda.sh",
    "kustomize.config.k8s.io",
)
VARIABLE = re.compile(r"\$\{(\w+)(?::[?-][^}]*)?\}")
FIRST_FREE_PORT = (
    1024  # lower ones take a privilege, wherever the runtime keeps the kernel's default
)
TEXT = {".yaml", ".Dockerfile", ".env", ".py"}
SETTINGS = {"dolly-settings", "dolly-serving"}  # ConfigMaps with variables
BY_USERS = {"deploy/compose/.env"}  # a file that the pages ask to be made
PATHS = re.compile(r"\bdeploy/[\w./-]*\w")
VERSIONED = re.compile(r".+:(?!latest$)[^:/]*\d[^:/]*$")

Check = Generator[str, None, str]


def main() -> int:
    """Print what was checked; return 1 if anything is wrong."""
    warnings.simplefilter("ignore")
    wrong = 0
    for name, check in CHECKS.items():
        problems, checked = run(check)
        wrong += len(problems)
        for problem in problems:
            print(f"{name}: {problem}")
        print(f"{'FAILED' if problems else 'ok':<7} {name}: {checked}")
    return 1 if wrong else 0


def run(check: Callable[[], Check]) -> tuple[list[str], str]:
    """Return a check's problems, and what it has checked."""
    generator, problems = check(), []
    while True:
        try:
            problems.append(next(generator))
        except StopIteration as end:
            return problems, end.value


def objects(folder: str = "") -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every Kubernetes object of deploy/kubernetes/, or of a folder in it, with its file."""
    for file in sorted((KUBERNETES / folder).rglob("*.yaml")):
        yield from ((file, each) for each in yaml.safe_load_all(file.read_text()))


def check_manifests() -> Check:
    """Check objects against their schemas, and references between them, by environment."""
    checked, foreign = 0, 0
    for file, each in objects():
        if each["apiVersion"].partition("/")[0] in FOREIGN_GROUPS:
            foreign += 1
            continue
        checked += 1
        yield from (f"{_short(file)}: {problem}" for problem in _against_schema(each))
    for file, each in objects():
        if each["kind"] == "Kustomization":
            missing = [name for name in each["resources"] if not (file.parent / name).exists()]
            listed = {(file.parent / name).name for name in each["resources"]}
            beside = {other.name for other in file.parent.glob("*.yaml")} - {file.name}
            yield from (f"{_short(file)}: {name} does not exist" for name in missing)
            yield from (f"{_short(file)}: {name} is not listed" for name in sorted(beside - listed))
    for environment in chart.ENVIRONMENTS:
        yield from _dangling(environment)
    for variant in serving.VARIANTS:
        yield from (f"serving/{variant}: {each}" for each in serving.dangling(_served(variant)))
    return (
        f"{checked} objects strictly against Kubernetes {KUBERNETES_VERSION}; {foreign} of other "
        "projects only parsed"
    )


def _against_schema(each: dict[str, Any]) -> Iterator[str]:
    import kubernetes_validate

    name = f"{each['kind']} {each['metadata']['name']}"
    try:
        kubernetes_validate.validate(each, KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{name}: {'/'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        version, kind = each["apiVersion"], each["kind"]
        yield f"{name}: Kubernetes {KUBERNETES_VERSION} has no {kind} in {version}"


def _dangling(environment: str) -> Iterator[str]:
    """Yield accounts, Roles, ConfigMaps and Secrets that are referred to and do not exist."""
    folders = ("base", environment, "examples")
    there = {
        (each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])
        for folder in folders
        for _, each in objects(folder)
        if "namespace" in each.get("metadata", {})
    }
    named: set[tuple[str, str, str]] = set()
    for _, each in objects("base"):
        if each["kind"] == "RoleBinding":
            named.add(("Role", each["metadata"]["namespace"], each["roleRef"]["name"]))
        if each["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            named |= {
                (subject["kind"], subject["namespace"], subject["name"])
                for subject in each["subjects"]
            }
    values = chart.values_of(environment)
    locations = values.dagster_user_deployments
    named.add(("ServiceAccount", "dagster", values.service_account.name))
    named.add(("ServiceAccount", "dagster", locations.service_account.name))
    named.add(("Secret", "dagster", values.global_.postgresql_secret_name))
    launcher = values.run_launcher.config["k8sRunLauncher"]
    for part in (values.dagster_webserver, values.dagster_daemon, launcher, *locations.deployments):
        named |= {("Secret", "dagster", each.name) for each in part.env_secrets}
        named |= {("ConfigMap", "dagster", each.name) for each in part.env_config_maps}
    for _, each in (found for folder in folders for found in objects(folder)):
        if pod := pods.pod_of(each):
            space = each["metadata"]["namespace"]
            named |= {(kind, space, name) for kind, name in pods.references_of(pod)}
    for pod in chart.pods(values).values():
        named |= {(kind, "dagster", name) for kind, name in pods.references_of(pod)}
    there.add(("ConfigMap", "dagster", chart.INSTANCE_CONFIG_MAP))  # the chart's
    yield from (
        f"{environment}: {kind} {name} in {space} is referred to and does not exist"
        for kind, space, name in named - there
    )


def check_chart() -> Check:
    """Check the chart's values, the dagster.yaml that it generates, and the Job of a run."""
    for environment in chart.ENVIRONMENTS:
        try:
            values = chart.values_of(environment)
        except ValueError as error:
            yield f"values-{environment}.yaml: {one_line(error)}"
            continue
        content = chart.dagster_yaml(values)
        if problems := instance.problems_of(content):
            yield from (f"values-{environment}.yaml: {problem}" for problem in problems)
            continue
        try:
            job = instance.run_job(content, _image(values))
        except Exception as error:  # noqa: BLE001 all that dagster-k8s raises for a wrong key
            yield f"values-{environment}.yaml: the Job of a run: {error}"
            continue
        yield from (f"values-{environment}.yaml: {problem}" for problem in _against_schema(job))
        yield from (f"values-{environment}.yaml: {problem}" for problem in _inconsistent(values))
    return (
        f"values for {' and '.join(chart.ENVIRONMENTS)} (chart {chart.CHART_VERSION}), and the Job "
        "of a run"
    )


def _inconsistent(values: chart.Values) -> Iterator[str]:
    """Yield values that are each right, and wrong together."""
    port = values.dagster_webserver.service.port
    if port < FIRST_FREE_PORT:
        yield f"the webserver's port {port} takes a privilege: expected {FIRST_FREE_PORT} or more"
    if values.dagster_webserver.readiness_probe["httpGet"]["port"] != port:
        yield f"readinessProbe does not ask the webserver's port {port}"
    proxy = (KUBERNETES / "examples" / "oauth2-proxy.yaml").read_text()
    if f"--upstream=http://dagster-dagster-webserver:{port}\n" not in proxy:
        yield f"examples/oauth2-proxy.yaml does not lead to the webserver's port {port}"
    for location in values.dagster_user_deployments.deployments:
        if location.include_config_in_launched_runs["enabled"]:
            yield f"runs get the values of {location.name} instead of those of runLauncher"
    launcher = values.run_launcher.config["k8sRunLauncher"]
    grace_seconds = launcher.run_k8s_config.pod_spec_config["terminationGracePeriodSeconds"]
    if values.dagster_daemon.run_monitoring.cancel_timeout_seconds <= grace_seconds:
        yield (
            f"a run counts as cancelled before its pod ends, {grace_seconds} s after it was asked "
            "to: raise cancelTimeoutSeconds"
        )


def check_pods() -> Check:
    """Check that all pods are accepted by PodSecurity `restricted`, and write to volumes only."""
    found = {
        f"{_short(file)}: {each['metadata']['name']}": pod
        for file, each in objects()
        if (pod := pods.pod_of(each))
    }
    for environment in chart.ENVIRONMENTS:
        values = chart.values_of(environment)
        run = instance.run_job(chart.dagster_yaml(values), _image(values))
        parts = {**chart.pods(values), "run": pods.pod_of(run) or {}}
        found |= {f"values-{environment}.yaml: {name}": pod for name, pod in parts.items()}
    for name, pod in found.items():
        yield from (f"{name}: {problem}" for problem in pods.problems_of(pod))
    return f"{len(found)} pods against PodSecurity `restricted`"


def check_limits() -> Check:
    """Check that quota and LimitRange accept the trainings of every family, as many as the pool."""
    families = list(read_declared(Environment.read({})).families.values())
    for environment in chart.ENVIRONMENTS:
        found = {each["kind"]: each for _, each in objects(environment)}
        settings = _kubernetes_settings(environment)
        [pool] = (pods.pod_of(found["CronJob"]) or {})["containers"]
        trainings = int(pool["command"][-1])
        hard = found["ResourceQuota"]["spec"]["hard"]
        for family in families:
            if problem := over_quota(family, settings, hard, at_once=trainings):
                yield f"{environment}: {problem}"
            for problem in over_limits(family, settings, found["LimitRange"]["spec"]["limits"]):
                yield f"{environment}: {problem}"
    return f"{len(families)} model families against {len(chart.ENVIRONMENTS)} quotas"


def _kubernetes_settings(environment: str) -> KubernetesSettings:
    [given] = (
        each["data"]["kubernetes.yaml"]
        for _, each in objects(environment)
        if each["kind"] == "ConfigMap" and "kubernetes.yaml" in each["data"]
    )
    return KubernetesSettings.model_validate(yaml.safe_load(given))


def check_paths() -> Check:
    """Check that every path in deploy/ that a file or a page names exists."""
    files = [file for file in sorted(DEPLOY.rglob("*")) if file.suffix in TEXT]
    files += [PROJECT / "Makefile", *sorted((PROJECT / "docs").rglob("*.md"))]
    count = 0
    for file in files:
        for named in PATHS.findall(file.read_text()):
            count += 1
            if named not in BY_USERS and not (DEPLOY.parent / named).exists():
                yield f"{file.name}: {named} does not exist"
    return f"{count} paths in {len(files)} files"


def check_reports() -> Check:
    """Check that links lead to the report server, that only the proxy does, and its permissions."""
    policy = DEPLOY / "iam" / "reports.json"
    for environment in chart.ENVIRONMENTS:
        folders = ("base", environment, "examples")
        there = [each for folder in folders for _, each in objects(folder)]
        yield from (f"{environment}: {problem}" for problem in reports.problems_of(there, policy))
    return f"the report server of {' and '.join(chart.ENVIRONMENTS)}"


def check_serving() -> Check:
    """Check that a rollout loses no request, who reaches the servers, and what they may do."""
    policy = DEPLOY / "iam" / "serving.json"
    for variant in serving.VARIANTS:
        problems = serving.problems_of(_served(variant), policy)
        yield from (f"serving/{variant}: {problem}" for problem in problems)
    return f"the servers of {' and '.join(serving.VARIANTS)}"


def _served(variant: str) -> list[dict[str, Any]]:
    """Return the objects that serve models in one way, and the Secrets of the examples."""
    folders = ("serving/base", f"serving/{variant}", "examples")
    found = [each for folder in folders for _, each in objects(folder)]
    return [each for each in found if each.get("metadata", {}).get("namespace") == serving.NAME]


def check_instance() -> Check:
    """Check that the dagster.yaml of one machine loads, and agrees with that of the chart."""
    content = yaml.safe_load(instance.INSTANCE.read_text())
    yield from instance.problems_of(content)
    of_chart = chart.dagster_yaml(chart.values_of("staging"))
    for key in (
        "compute_logs",
        "run_coordinator",
        "run_monitoring",
        "run_retries",
        "sensors",
        "schedules",
        "concurrency",
        "retention",
        "telemetry",
    ):
        if content[key] != of_chart[key]:
            yield f"{key} differs: {content[key]} here, {of_chart[key]} in the chart"
    return "deploy/instance/dagster.yaml, with Dagster's loader and against the chart's"


def check_settings() -> Check:
    """Check that something reads each variable of ours that a deployment sets."""
    read = set(re.findall(r"\bDOLLY_\w+", (PROJECT / "docs" / "settings.md").read_text()))
    read |= set(re.findall(r"env: (\w+)", instance.INSTANCE.read_text()))
    given = {
        _short(file): set(each["data"])
        for file, each in objects()
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] in SETTINGS
    }
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    given["compose.yaml"] = set(compose["x-dolly"]["environment"])
    for file, names in given.items():
        ours = {name for name in names if name.startswith("DOLLY_")}
        yield from (f"{file}: nothing reads {name}" for name in sorted(ours - read))
    return f"{sum(map(len, given.values()))} variables in {len(given)} files"


def check_compose() -> Check:
    """Check references between services, volumes and variables; versions; and published ports."""
    folder = DEPLOY / "compose"
    files = {file.name: yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))}
    main_file = files["compose.yaml"]
    known = re.findall(r"^(\w+)=", (folder / "example.env").read_text(), re.MULTILINE)
    for name, content in files.items():
        services = content.get("services", {})
        asked = {
            found[1] for found in VARIABLE.finditer((folder / name).read_text().replace("$$", ""))
        }
        yield from (
            f"{name}: ${each} is not in example.env"
            for each in sorted(asked - {*known, "DOLLY_VERSION"})
        )
        for service, settings in services.items():
            for needed in settings.get("depends_on", {}):
                if needed not in {**main_file["services"], **services}:
                    yield f"{name}: {service} depends on {needed}, which does not exist"
            for volume in settings.get("volumes", []):
                source = volume.partition(":")[0]
                if source.startswith(".") and not (folder / source).exists():
                    yield f"{name}: {service}: {source} does not exist"
                if not source.startswith(".") and source not in main_file["volumes"]:
                    yield f"{name}: {service}: volume {source} is not declared"
            image = VARIABLE.sub(
                lambda found: found[0].rpartition("-")[2].rstrip("}"),
                settings.get("image", "none:0"),
            )
            if not VERSIONED.match(image):
                yield f"{name}: {service}: image {image} has no version"
            yield from (
                f"{name}: {service}: port {port} is open to the network"
                for port in settings.get("ports", [])
                if not port.startswith("127.0.0.1:")
            )
    for service, settings in main_file["services"].items():
        keys = [str(value) for value in settings.get("environment", {}).values()]
        if service not in ("s3", "s3-setup") and any("S3_ROOT" in key for key in keys):
            yield f"compose.yaml: {service} has the keys of the S3 server's administrator"
    run = json.loads((DEPLOY / "iam" / "run.json").read_text())
    if json.loads((folder / "s3-policy.json").read_text()) != policies.of_one_machine(run):
        yield "s3-policy.json differs from iam/run.json by more than condition, inbox and buckets"
    return f"{len(files)} files, {len(main_file['services'])} services; parsed, not started"


def check_rights() -> Check:
    """Check that the code uses every right of a Role, and that every request is allowed."""
    roles = {
        each["metadata"]["name"]: rights.rights_of_role(each)
        for folder in ("base", "serving")
        for _, each in objects(folder)
        if each["kind"] in ("Role", "ClusterRole")
    }
    needed = rights.needed()
    yield from (f"role {name} belongs to no code" for name in sorted(roles.keys() - needed.keys()))
    for name, expected in needed.items():
        yield from rights.differences(roles.get(name, set()), expected, name)
    return (
        f"{sum(map(len, roles.values()))} rights of {len(roles)} roles, against the requests that "
        "the code makes"
    )


def check_dockerfiles() -> Check:
    """Check Dockerfiles with hadolint, and that they have versions and do not run as root."""
    files = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [str(hadolint), "--no-color", *map(str, files)], capture_output=True, text=True, check=False
    )
    yield from done.stdout.splitlines() + done.stderr.splitlines()
    for file in files:
        users = re.findall(r"^USER (\S+)$", file.read_text(), re.MULTILINE)
        if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
            yield f"{file.name}: the last USER is not a numeric user other than root"
        for name, default in re.findall(r"^ARG (\w+_IMAGE)=(.*)$", file.read_text(), re.MULTILINE):
            if not VERSIONED.match(default):
                yield f"{file.name}: {name}={default} has no version"
        commands = file.read_text().replace("\\\n", " ")
        for command in re.findall(r"pip install ([^&;|\n]+)", commands):
            if "--require-hashes" not in command and not command.rstrip().endswith(" ."):
                yield f"{file.name}: pip install {command.split()[-1]} checks no hashes"
    others = {(image.name, image.tag): image.digest for image in pin.images(DEPLOY)}
    return (
        f"{len(files)} Dockerfiles with hadolint, not built; of {len(others)} images of others "
        f"{sum(map(bool, others.values()))} are pinned by digest (make image-pins)"
    )


def check_iam() -> Check:
    """Check IAM policies for wildcards, and that none lets published content be overwritten."""
    files = sorted((DEPLOY / "iam").glob("*.json"))
    for file in files:
        problems = policies.problems_of(json.loads(file.read_text()))
        yield from (f"{file.name}: {problem}" for problem in problems)
    folders = policies.folders_of((PROJECT / "docs" / "store.md").read_text())
    for folder in policies.nobody_writes(folders, [json.loads(file.read_text()) for file in files]):
        yield f"no policy lets anybody write {folder}/ of the store, which docs/store.md names"
    return f"{len(files)} policies, for the {len(folders)} folders of the store"


def _image(values: chart.Values) -> str:
    image = values.dagster_user_deployments.deployments[0].image
    return f"{image.repository}:{image.tag}"


def _short(file: Path) -> str:
    return str(file.relative_to(DEPLOY))


CHECKS: dict[str, Callable[[], Check]] = {
    "manifests": check_manifests,
    "chart": check_chart,
    "pods": check_pods,
    "limits": check_limits,
    "paths": check_paths,
    "reports": check_reports,
    "serving": check_serving,
    "instance": check_instance,
    "settings": check_settings,
    "compose": check_compose,
    "rights": check_rights,
    "images": check_dockerfiles,
    "iam": check_iam,
}

if __name__ == "__main__":
    sys.exit(main())
