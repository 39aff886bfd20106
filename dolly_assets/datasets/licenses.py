"""What licences allow and require, and what that means for a model made under several of them.

Knows SPDX ids and the Hub's tags (https://huggingface.co/docs/hub/repositories-licenses). It is a
table, not legal advice: how licences apply to training is disputed, so the stricter reading is
used.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import JsonValue

from dolly_assets.core.errors import LicenseError

UNKNOWN, OTHER = "unknown", "other"
LICENSE_ATTRIBUTES = ("licenses", "commercial_use", "obligations")
Use = Literal["commercial", "non-commercial"]
_NO_ADAPTATIONS = "no adapted version may be shared"
_SPDX = "https://spdx.org/licenses/"


class Terms(NamedTuple):
    """What a licence allows and requires.

    Attributes:
        source: Where its text is published.
        commercial: Whether commercial use is allowed.
        attribution: Whether the authors must be named.
        share_alike: Whether what is derived must be shared under the same licence.
        restrictions: Restrictions on use, in words.
    """

    source: str
    commercial: bool = True
    attribution: bool = True
    share_alike: bool = False
    restrictions: str = ""


def _cc(name: str, version: str) -> Terms:
    no_adaptations = _NO_ADAPTATIONS if "nd" in name.split("-") else ""
    return Terms(
        source=f"https://creativecommons.org/licenses/{name}/{version}/legalcode",
        commercial="nc" not in name.split("-"),
        share_alike="sa" in name.split("-"),
        restrictions=no_adaptations,
    )


def _spdx(name: str, *, attribution: bool = True, share_alike: bool = False) -> Terms:
    return Terms(f"{_SPDX}{name}.html", attribution=attribution, share_alike=share_alike)


def _rail(source: str) -> Terms:
    return Terms(
        source,
        restrictions="the uses listed in its attachment A are forbidden, and so for all "
        "derivatives",
    )


def _llama(version: str) -> Terms:
    path = version.replace(".", "_")
    return Terms(
        f"https://www.llama.com/llama{path}/license/",
        restrictions="Meta's acceptable use policy; no service of more than 700 million users a "
        "month",
    )


_CC_KINDS = ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd")
_TERMS: dict[str, Terms] = {
    **{
        f"cc-{kind}-{version}": _cc(kind, version)
        for kind in _CC_KINDS
        for version in ("2.0", "2.5", "3.0", "4.0")
    },
    **{
        name.lower(): _spdx(name)
        for name in ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "ODC-By-1.0")
    },
    **{
        name.lower(): _spdx(name, attribution=False)
        for name in ("CC0-1.0", "PDDL-1.0", "Unlicense", "0BSD", "MIT-0")
    },
    **{name.lower(): _spdx(name) for name in ("CDLA-Permissive-1.0", "CDLA-Permissive-2.0")},
    **{
        name.lower(): _spdx(name, share_alike=True)
        for name in (
            "ODbL-1.0",
            "CDLA-Sharing-1.0",
            "GPL-2.0",
            "GPL-3.0",
            "AGPL-3.0",
            "LGPL-3.0",
            "MPL-2.0",
        )
    },
    **{f"llama{version}": _llama(version) for version in ("2", "3", "3.1", "3.2", "3.3")},
    "gemma": Terms(
        "https://ai.google.dev/gemma/terms", restrictions="Google's prohibited use policy for Gemma"
    ),
    "openrail": _rail("https://www.licenses.ai"),
    "bigscience-openrail-m": _rail("https://huggingface.co/spaces/bigscience/license"),
    "bigscience-bloom-rail-1.0": _rail("https://huggingface.co/spaces/bigscience/license"),
    "bigcode-openrail-m": _rail(
        "https://huggingface.co/spaces/bigcode/bigcode-model-license-agreement"
    ),
    "creativeml-openrail-m": _rail(
        "https://huggingface.co/spaces/CompVis/stable-diffusion-license"
    ),
}
_WITHOUT_TAG = frozenset({"0bsd", "mit-0"}) | {
    f"cc-{kind}-{version}"
    for kind, versions in {
        "by-sa": ("2.0", "2.5"),
        "by-nc": ("2.5",),
        "by-nd": ("2.0", "2.5", "3.0"),
        "by-nc-sa": ("2.5",),
        "by-nc-nd": ("2.0", "2.5"),
    }.items()
    for version in versions
}
"""Licences of the table that the Hub has no tag for."""
_TAGS = {"odc-by": "odc-by-1.0", "odbl": "odbl-1.0", "pddl": "pddl-1.0", "bsd": "bsd-3-clause"}


class Licensed(NamedTuple):
    """Something that a model is made from.

    Attributes:
        asset: Its asset.
        path: The assets between it and the model.
        license: Its licence.
    """

    asset: str
    path: tuple[str, ...]
    license: str

    @property
    def lineage(self) -> str:
        """The path from the licensed asset to the model."""
        return " → ".join([f"{self.asset} ({self.license})", *self.path])


def terms_of(license_id: str) -> Terms | None:
    """Return the terms of a licence by its SPDX id or Hub tag, in any case; None if unknown."""
    name = license_id.lower().removesuffix("-only").removesuffix("-or-later")
    return _TERMS.get(_TAGS.get(name, name))


def spdx_id(license_id: str) -> str | None:
    """Return the SPDX id of a licence in SPDX's spelling; None if it is unknown or has none."""
    name, terms = license_id.lower(), terms_of(license_id)
    if terms and terms.source.startswith(_SPDX):
        version = next((end for end in ("-only", "-or-later") if name.endswith(end)), "")
        return terms.source.removeprefix(_SPDX).removesuffix(".html") + version
    return name.upper() if terms and name.startswith("cc-") else None


def hub_tag(license_id: str) -> str:
    """Return the Hub's tag of a licence; `other` if it has none, `unknown` if it is not known."""
    if terms_of(license_id) is None:
        return UNKNOWN
    name = license_id.lower().removesuffix("-only").removesuffix("-or-later")
    tag = {spdx: tag for tag, spdx in _TAGS.items() if tag != "bsd"}.get(name, name)
    return OTHER if tag in _WITHOUT_TAG else tag


def forbids_publishing(license_id: str) -> str | None:
    """Return why nothing made under a licence may be made public; None if it may.

    Of an unknown licence that is not known, so it may not.
    """
    terms = terms_of(license_id)
    if terms is None:
        return "its terms are unknown"
    return _NO_ADAPTATIONS if terms.restrictions == _NO_ADAPTATIONS else None


def licensed_inputs(
    family: str, dataset: str, *, dataset_license: str, base_model_license: str
) -> tuple[Licensed, ...]:
    """Return what a family's models of a dataset are made from."""
    checkpoint = f"{family}/model_checkpoint[{dataset}]"
    tokenized = f"{family}/tokenized_dataset[{dataset}]"
    return (
        Licensed(f"raw_dataset[{dataset}]", (tokenized, checkpoint), dataset_license),
        Licensed(f"{family}/base_model", (checkpoint,), base_model_license),
    )


def commercial_use(inputs: Sequence[Licensed]) -> Literal["allowed", "not allowed", "unknown"]:
    """Return whether a model made from these may be used commercially."""
    terms = [terms_of(each.license) for each in inputs]
    if any(each and not each.commercial for each in terms):
        return "not allowed"
    return "unknown" if None in terms else "allowed"


def obligations(inputs: Sequence[Licensed]) -> list[str]:
    """Return what users and distributors of a model made from these must observe, and why."""
    found = []
    for each in inputs:
        because = f"{each.asset} is {each.license}"
        terms = terms_of(each.license)
        if terms is None:
            found.append(f"unknown: {because}, whose terms are unknown")
            continue
        asked = {
            "non-commercial use only": not terms.commercial,
            "share under the same licence": terms.share_alike,
            "name the authors": terms.attribution,
            terms.restrictions: bool(terms.restrictions),
        }
        found += [
            f"{what}: {because} ({terms.source})" for what, is_asked in asked.items() if is_asked
        ]
    return found


def license_attributes(inputs: Sequence[Licensed]) -> dict[str, JsonValue]:
    """Return the attributes of a model made from these: the keys of `LICENSE_ATTRIBUTES`."""
    licenses: dict[str, JsonValue] = {each.asset: each.license for each in inputs}
    return {
        "licenses": licenses,
        "commercial_use": commercial_use(inputs),
        "obligations": list[JsonValue](obligations(inputs)),
    }


def check_use(use: Use, inputs: Sequence[Licensed]) -> None:
    """Check that a model for this use may be made from these.

    Raises:
        LicenseError: It must not; the text shows the path from the licensed asset to the model.
    """
    if use != "commercial":
        return
    for each in inputs:
        terms = terms_of(each.license)
        if terms is None:
            raise LicenseError(
                f"{each.lineage}: the family has use: commercial, but it is unknown whether this "
                "licence allows that: state a known SPDX id or Hub tag, or set use: non-commercial"
            )
        if not terms.commercial:
            raise LicenseError(
                f"{each.lineage}: the family has use: commercial, but {each.license} allows no "
                f"commercial use ({terms.source}): train on other data, or set use: non-commercial"
            )
