"""The licence of a model as its card states it, and whether the model may be made public.

A model is made under the licences of its data and of its base model at once, as
`datasets/licenses.py` knows them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dolly_assets.core.markdown import inline
from dolly_assets.datasets.licenses import (
    OTHER,
    UNKNOWN,
    forbids_publishing,
    hub_tag,
    terms_of,
)

LICENSES_FILE = "LICENSES.md"


def card_license(licenses: Mapping[str, str] | None) -> dict[str, str]:
    """Return the keys of a card that state the licence; `other` with a name if there are several.

    Args:
        licenses: What the model was made from, with its licence.
    """
    names = sorted({name.lower() for name in (licenses or {}).values()})
    tags = {hub_tag(name) for name in names}
    if not names or UNKNOWN in tags:
        return {"license": UNKNOWN}
    if len(names) == 1 and OTHER not in tags:
        return {"license": tags.pop()}
    return {
        "license": OTHER,
        "license_name": "-and-".join(names),
        "license_link": LICENSES_FILE,
    }


def licenses_markdown(licenses: Mapping[str, str] | None, obligations: Sequence[str] | None) -> str:
    """Return the licences with the address of their texts, and what they oblige to."""
    lines = ["# Licences", "", "This model was made under:", ""]
    for asset, name in (licenses or {"its data and base model": "not recorded"}).items():
        terms = terms_of(name)
        where = f": <{terms.source}>" if terms else ""
        lines.append(f"- {inline(asset)}: {inline(name)}{where}")
    lines += ["", "Users and distributors must observe:", ""]
    lines += [f"- {each}" for each in obligations or ["not recorded"]]
    return "\n".join([*lines, ""])


def why_not_public(facts: Mapping[str, Any]) -> list[str]:
    """Return why a model must not be made public, by its lineage; empty if it may be."""
    licenses: Mapping[str, str] | None = facts["licenses"]
    if not licenses:
        return ["the licences of its data and base model are not recorded"]
    return [
        f"{asset} is {name}, and {why}"
        for asset, name in licenses.items()
        if (why := forbids_publishing(name))
    ]
