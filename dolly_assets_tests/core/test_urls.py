"""Passwords and tokens in URLs are found, refused and left out of texts."""

import pytest

from dolly_assets.core.environment import SHOWN_URLS, Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import check_no_password, has_password, without_secrets

PASSWORD = "pA55"
WITH_PASSWORD = [
    f"https://user:{PASSWORD}@host/x.jsonl",
    f"https://user:{PASSWORD}/with/slash@host/x.jsonl",
    f"https://user:with@{PASSWORD}@host/x.jsonl",
    f"https://{PASSWORD}@host/x.jsonl",
    f"https://:{PASSWORD}@host/x.jsonl",
    f"s3://key:{PASSWORD}@bucket/x.jsonl",
    f"postgresql://user:{PASSWORD}@host:5432/dagster?sslmode=require",
    f"file://user:{PASSWORD}@host/x",
    f"user:{PASSWORD}@host/x.jsonl",
    f"user:{PASSWORD}@host:x/y.jsonl",
]
WITHOUT_PASSWORD = [
    "",
    "owner/name@main",
    "owner/name@refs/convert/parquet",
    "builtin:demo",
    "s3://bucket/data@2026/x.jsonl",
    "https://host:8443/x.jsonl",
    "/data/a@b.jsonl",
    "C:/data/x.jsonl",
    "file:///data/a@b.jsonl",
]


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_a_password_is_found_and_never_shown(url: str) -> None:
    assert has_password(url)
    assert PASSWORD not in without_secrets(f"{url!r}: cannot be read (see {url}); {url}")
    with pytest.raises(ConfigurationError, match="user name or password: remove it") as refused:
        check_no_password(url, "the source")
    assert PASSWORD not in str(refused.value)
    for name in SHOWN_URLS:
        with pytest.raises(ConfigurationError, match=name) as refused:
            Environment.read({name: url})
        assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("url", WITHOUT_PASSWORD)
def test_what_holds_no_password_stays_as_it_is(url: str) -> None:
    assert check_no_password(url, "the source") == url
    assert without_secrets(f"{url}: what is this? 3 of 4") == f"{url}: what is this? 3 of 4"


def test_the_query_of_a_presigned_url_is_left_out() -> None:
    url = f"https://bucket.example/x.jsonl?X-Amz-Signature={PASSWORD}"
    assert without_secrets(f"403 for '{url}'; again") == (
        "403 for 'https://bucket.example/x.jsonl'; again"
    )


def test_the_settings_of_a_process_do_not_show_webhooks() -> None:
    environment = Environment.read({"DOLLY_ALERTS": f"https://hooks.example/{PASSWORD}"})
    assert PASSWORD not in f"{environment!r} {environment} {environment.model_dump_json()}"
