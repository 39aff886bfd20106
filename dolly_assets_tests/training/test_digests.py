"""Digests that name assets and trainings, as version 0.1.0 computed them.

Only of trainings in bf16 they changed since, on purpose: gradients are now summed in float32.

A digest that changes for the same settings makes every existing store train again. If one of these
fails, find out which field, default or version moved, and change the digest only on purpose.
"""

from pathlib import Path

import pytest

from dolly_assets.components.code_location import component_trees, families
from dolly_assets.core.environment import Environment
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import KINDS

RECIPES = {
    "demo": "a68cbf8a08a708b7d81c884ede895cc40e3bc34bb22e181c9423eccee998a755",
    "gpt_j_6b": "7bf7d4b672100863661f541c51015d5ff44a97105ed6f3439ebf968ed4253004",
    "pythia_12b": "983bfce2237718b554cfada0240ee92fe1ba71cf064570bbe526297488a53eee",
}
NO_SETTINGS = "080a9ed428559ef602668b4c00f114f1a11c3f6b02a435f0bdc154578e4d7f22"
CODE_VERSIONS = {
    "demo": {
        "base_model": "2cc0a14085c2d9411db08351eec67748c974754b184d417388c66109b7fcc457",
        "tokenized_dataset": "00050455c7649442e26ed83bc7ef409a294fa34fc7be65e53d391873903cd17d",
        "training_plan": "3ec6d7c4b149cbf91abc2cf336eb37dbd6af82b50bde10f152441999e6ec0fbd",
        "model_checkpoint": "b875e6a5b6dad7a62d2aa38484a4d8abfd7bdb61fa7ab25ad5ceb275ac021733",
        "evaluation": "7f0dbab2bc1ac0d513b195c6bd6e3c8b0ff24da20d36a5089a5a648003705f90",
        "sample_responses": "abdda5430615f2554bf12610a8aabb2009e5323495522b7719e55b8193ade4aa",
    },
    "gpt_j_6b": {
        "base_model": "b87d10168eefaa629424e2f8ee638d5f28fc6dc132fcc0f7b35aa2adafd30ba5",
        "tokenized_dataset": "ac8e927f961b262647a1f4835e625c27db79bc4ef5062fbddf2de511e8b3e326",
        "training_plan": "f84181e9473d9e52e1762554945fef1819b043f3acfe54059c13f96b8a68d3d4",
        "model_checkpoint": "17753046e4a362795d11b0cd3586b1ce68310360e226d899f29eee7fb44905ef",
        "evaluation": "ead0668026235e6423ccf701211eaf8d3f2070c3372dfce490397eed1bd82c5e",
        "sample_responses": "1277492975f6bf876051cd67bb1c5c6dcf2e71d33fcef4417c4a8488e4dfaea2",
    },
    "pythia_12b": {
        "base_model": "dc8d374fe24e580841fb52c10e0a86b9d0396fde749d1b5bcb697296ae43f8a4",
        "tokenized_dataset": "87e082c931d7b4bd5f86d13f121b38d6706d36bc140580da4cd95aa5119110ac",
        "training_plan": "ff0121790a4e26040c2c8e99c4e395f348ce7d3837c28ffd9aab47910cd7ed61",
        "model_checkpoint": "3decc1a697e1d8ee3b2640b4f64823f2c01576cf4c10abda0d8c0f236ecb3a7b",
        "evaluation": "ead0668026235e6423ccf701211eaf8d3f2070c3372dfce490397eed1bd82c5e",
        "sample_responses": "1277492975f6bf876051cd67bb1c5c6dcf2e71d33fcef4417c4a8488e4dfaea2",
    },
}
# Recipe, plan and checkpoint of 0.1.0, which summed the gradients of bf16 in bf16.
BF16_GRADIENTS = {
    "gpt_j_6b": (
        "21ca16412c03c55f9d85b2f98f4e9fe5941f6a2fc11dbea0b9101ad9af0a467a",
        "2044dc657855c48001dce49f3a6c41e020152836f31229a39b6e936641c07ced",
        "5960a05f518882876fd2c3025ad4ecf1b902c12a776aef5f6702c423065f868c",
    ),
    "pythia_12b": (
        "7a4821d9470f2bc0c2400491d9fa3bf1eae56bb0a7f9c4191373db8e4b03d2bf",
        "9fae46e5d23390b52c097f79c0978c76dc34053802f26932aca1956660a55666",
        "82c400dec68d0e7e98f7456c23cea7e32c6ec8968fb69eaef21acaaa9c6b362b",
    ),
}
WITHOUT_SETTINGS = (
    "gpu_profile",
    "training_profile",
    "epoch_comparison",
    "champion_model",
    "training_approval",
)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFamily]:
    home: Path = tmp_path_factory.mktemp("home")
    return families(component_trees(Environment(home=home, store_url=str(home / "store"))))


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_has_the_digest_that_its_stored_trainings_carry(
    bundled: dict[str, ModelFamily], name: str
) -> None:
    assert bundled[name].recipe.digest == RECIPES[name]


@pytest.mark.parametrize("name", CODE_VERSIONS)
def test_every_asset_has_the_code_version_that_stored_artifacts_carry(
    bundled: dict[str, ModelFamily], name: str
) -> None:
    family = bundled[name]
    expected = {**CODE_VERSIONS[name], **dict.fromkeys(WITHOUT_SETTINGS, NO_SETTINGS)}
    assert {asset: KINDS[asset].code_version(family) for asset in expected} == expected


@pytest.mark.parametrize("name", BF16_GRADIENTS)
def test_gradients_in_bf16_as_in_0_1_have_the_digests_of_0_1(
    bundled: dict[str, ModelFamily], name: str
) -> None:
    recipe = bundled[name].recipe.model_copy(update={"gradient_precision": "bf16"})
    family = bundled[name].model_copy(update={"recipe": recipe})
    assets = ("training_plan", "model_checkpoint")
    versions = [KINDS[asset].code_version(family) for asset in assets]
    assert (recipe.digest, *versions) == BF16_GRADIENTS[name]
