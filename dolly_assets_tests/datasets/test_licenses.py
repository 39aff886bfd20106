"""What licences allow and ask for, by SPDX id and by the Hub's tag."""

import pytest

from dolly_assets.core.errors import LicenseError
from dolly_assets.datasets.licenses import (
    check_use,
    commercial_use,
    licensed_inputs,
    obligations,
    terms_of,
)


def of(dataset: str, base_model: str = "apache-2.0") -> tuple:
    return licensed_inputs(
        "dolly", "alpaca", dataset_license=dataset, base_model_license=base_model
    )


@pytest.mark.parametrize(
    ("license_id", "commercial", "share_alike"),
    [
        ("CC-BY-NC-4.0", False, False),
        ("cc-by-nc-sa-3.0", False, True),
        ("cc-by-sa-3.0", True, True),
        ("Apache-2.0", True, False),
        ("GPL-3.0-or-later", True, True),
        ("odc-by", True, False),
        ("llama3.1", True, False),
    ],
)
def test_known_licences(license_id: str, *, commercial: bool, share_alike: bool) -> None:
    terms = terms_of(license_id)
    assert terms
    assert (terms.commercial, terms.share_alike) == (commercial, share_alike)
    assert terms.source.startswith("https://")


@pytest.mark.parametrize("license_id", ["unknown", "other", "cc", "", "my-licence"])
def test_a_licence_that_is_not_known_is_not_taken_for_one_that_is(license_id: str) -> None:
    assert terms_of(license_id) is None
    assert commercial_use(of(license_id)) == "unknown"
    check_use("non-commercial", of(license_id))
    with pytest.raises(LicenseError, match="unknown whether this licence"):
        check_use("commercial", of(license_id))


def test_the_strictest_licence_decides() -> None:
    assert commercial_use(of("mit")) == "allowed"
    assert commercial_use(of("mit", "cc-by-nc-4.0")) == "not allowed"
    assert commercial_use(of("unknown", "cc-by-nc-4.0")) == "not allowed"


def test_obligations_say_because_of_what() -> None:
    found = obligations(of("cc-by-nc-sa-4.0", "gemma"))
    assert any(
        each.startswith("non-commercial use only: raw_dataset[alpaca] is cc-by-nc-sa-4.0 (http")
        for each in found
    )
    assert any(
        each.startswith("share under the same licence: raw_dataset[alpaca]") for each in found
    )
    assert any(
        "prohibited use policy for Gemma: dolly/base_model is gemma" in each for each in found
    )


def test_a_refusal_shows_the_way_from_the_licence_to_the_model() -> None:
    with pytest.raises(LicenseError) as refused:
        check_use("commercial", of("cc-by-nc-4.0"))
    way = (
        "raw_dataset[alpaca] (cc-by-nc-4.0) → dolly/tokenized_dataset[alpaca] "
        "→ dolly/model_checkpoint[alpaca]"
    )
    assert str(refused.value).startswith(way)
