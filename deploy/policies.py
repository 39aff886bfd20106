"""The S3 policies of deploy/: what they may name, and that none allows to change the published."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

# What a policy may name: a bucket, or keys of a folder in it by their beginning or end.
RESOURCE = re.compile(r"arn:aws:s3:::[\w.-]+(/[\w./-]+/[\w-]*\*[\w.]*)?")
# Such keys are never overwritten: only puts with this condition are allowed.
PUBLISHED = ("models/blobs/sha256/00/00", "models/manifests/demo/model/01.json")
WITHIN = {"weights", "state"}  # folders of artifacts, and not of the store
ONLY_NEW = {"Null": {"s3:if-none-match": "false"}}


def problems_of(policy: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a policy."""
    if policy["Version"] != "2012-10-17":
        yield "Version must be 2012-10-17"
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            if not re.fullmatch(r"s3:[A-Z]\w+", action):
                yield f"{statement['Sid']}: {action} is not a single S3 action"
        for resource in statement["Resource"]:
            if not RESOURCE.fullmatch(resource):
                yield f"{statement['Sid']}: {resource} is more than a folder of a bucket"
        if _overwrites(statement):
            yield (
                f"{statement['Sid']} lets published content be overwritten: expected the condition "
                f"{json.dumps(ONLY_NEW)}"
            )


def folders_of(page: str) -> list[str]:
    """Return the folders of the store that its page names: in its layout, and those that change."""
    layout = page.partition("## Layout")[2].partition("\n## ")[0]
    listed, beside = re.findall(r"^(\w+)/", layout, re.M), re.findall(r"`(\w+)/`", layout)
    return sorted({*listed, *beside} - WITHIN)


def nobody_writes(folders: list[str], policies: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the folders of the store in which no policy lets anybody write."""
    writable = {
        resource.split("/")[2]
        for policy in policies
        for statement in policy["Statement"]
        for resource in statement["Resource"]
        if "s3:PutObject" in statement["Action"] and "/models/" in resource
    }
    yield from sorted({*folders} - writable)


def of_one_machine(run: dict[str, Any]) -> dict[str, Any]:
    """Return the policy of runs without what MinIO does not know, for the buckets of compose."""
    policy = json.loads(json.dumps(run).replace("-prod", ""))
    statements = [each for each in policy["Statement"] if "Inbox" not in each["Sid"]]
    for statement in statements:
        statement.pop("Condition", None)
    return {**policy, "Statement": statements}


def _overwrites(statement: dict[str, Any]) -> bool:
    keys = [resource.partition("/")[2] for resource in statement["Resource"]]
    return (
        "s3:PutObject" in statement["Action"]
        and statement.get("Condition") != ONLY_NEW
        and any(fnmatchcase(published, key) for published in PUBLISHED for key in keys)
    )
