"""Whatever bytes are given as YAML: a model, or one error that names file, line and column."""

import random
from pathlib import Path

import pytest
from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.yaml_text import MAX_YAML_BYTES, parse_yaml, read_start, read_yaml
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings

PIECES = [
    *"[]{}:,-?&*!|>%@`'\"#~\\ \n\t\x00\x01\x85\xff\ufeff\ud7ff",
    *("a", "0", "1", "-1", "0x", "0b1", "1:1", ".inf", ".", "1e9", "<<", "=", "null", "yes", "..."),
    *("---\n", "!!int ", "!!float ", "!!bool ", "!!binary ", "!!timestamp ", "!!set ", "!!omap "),
    *(
        "!!pairs ",
        "!!python/name:os.system ",
        "!<x> ",
        "%YAML 9.9\n",
        "%YAML 1." + "9" * 5000,
        r'"\UFFFFFFFF"',
        "2026-99-99",
        "2026-01-01",
    ),
    *(" 00:00:00+99:99", "9" * 5000, "&a ", "*a", "a: ", "- ", "? ", "\n  ", "[" * 60, "{a: " * 60),
]


class Named(Config):
    name: str = ""
    size: int = Field(default=0, ge=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: 2026-99-99", "not YAML: line 1, column 7: a value cannot be read: month must be"),
        ("name: a\nsize: 9" + "9" * 5000, "not YAML: line 2, column 7: a value cannot be read"),
        ("size: !!int ''", "not YAML: line 1, column 7: a value cannot be read"),
        ("size: " + "[" * 5000, "not YAML: line 1, column 56: more than 50 levels of nesting"),
        ("name: a: b", "not YAML: line 1, column 8: mapping values are not allowed here"),
        ("name: \x01", "not YAML: .*special characters are not allowed"),
        ("size: -1\nname: 1", "name: Input should be a valid string; size: .*or equal to 0"),
        (r'name: "\UFFFFFFFF"', "not YAML: "),
        ("%YAML 1." + "9" * 5000 + "\n--- {}", "not YAML: Exceeds the limit"),
        ("nme: a", "nme: Extra inputs are not permitted; known keys: name, size"),
        ("- a", "expected keys with values, found a list"),
        ("#" * (MAX_YAML_BYTES + 1), "more than 65,536 bytes"),
    ],
)
def test_an_error_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "named.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=rf"^NAMED: {message}"):
        read_yaml(Named, read_start(tmp_path / "named.yaml", "NAMED"), "NAMED")


def test_what_cannot_be_read_is_an_error_and_what_is_empty_is_not(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigurationError, match=r"^NAMED: cannot be read: "):
            read_start(path, "NAMED")
    for text in (b"", b"# nothing yet\n", b"---\n"):
        assert read_yaml(Named, text, "NAMED") == Named()


def test_no_other_error_gets_out() -> None:
    chance = random.Random(1)
    refused = []
    for _ in range(3000):
        text = "".join(chance.choices(PIECES, k=chance.randint(1, 8)))
        try:
            parse_yaml(text.encode(), "fuzzed")
        except ConfigurationError as error:
            refused.append(str(error))
    assert 1000 < len(refused) < 3000, "some of it is YAML, and some is not"
    assert not any("\n" in text for text in refused)


def test_a_deployments_settings_that_refer_to_themselves_are_refused() -> None:
    text = b"{namespace: a, image: b, config: {pod: &again {x: *again}}}"
    with pytest.raises(ConfigurationError, match="config"):
        read_yaml(KubernetesSettings, text, "DOLLY_KUBERNETES")
