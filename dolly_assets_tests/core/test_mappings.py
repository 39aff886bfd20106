"""Settings merged over settings."""

from dolly_assets.core.mappings import merged


def test_nested_mappings_are_merged_and_other_values_replaced() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1], "f": {"g": 1}}
    overrides = {"a": {"c": {"d": 3, "h": 4}}, "e": [2], "f": None, "i": {"j": 5}}
    assert merged(base, overrides) == {
        "a": {"b": 1, "c": {"d": 3, "h": 4}},
        "e": [2],
        "f": None,
        "i": {"j": 5},
    }


def test_what_was_merged_stays_as_it_was() -> None:
    base, overrides = {"a": {"b": 1}}, {"a": {"c": 2}}
    merged(base, overrides)["a"]["b"] = 7
    assert base == {"a": {"b": 1}}
    assert overrides == {"a": {"c": 2}}
