"""The connection to S3: endpoint, region, and where credentials come from.

It knows no keys and no bytes.
"""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import check_no_password

if TYPE_CHECKING:
    from botocore.session import Session

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
ROLE_VARIABLES = (  # of a pod or a container; obstore reads them itself
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
PROFILE_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
}


class S3Settings(BaseModel):
    """The settings of dagster-aws's S3Resource, without its keys.

    Keys are left out because Dagster shows settings and workers receive them. What is not set comes
    from the `AWS_*` variables and from the profile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    region_name: str | None = Field(default=None, description="Region of the bucket.")
    endpoint_url: str | None = Field(
        default=None, description="Endpoint of a store other than Amazon's."
    )
    profile_name: str | None = Field(
        default=None, description="Profile in ~/.aws/; needs boto3 where it is used."
    )
    # 10 more attempts with doubling waits of 0.1 to 15 s bridge an outage of about a minute.
    max_attempts: PositiveInt = Field(
        default=11, description="Attempts at a request that fails for a transient reason."
    )
    use_ssl: bool = Field(
        default=True, description="False allows an endpoint without TLS, as AWS_ALLOW_HTTP does."
    )
    verify: bool | None = Field(
        default=None, description="False accepts any certificate of the endpoint."
    )
    use_unsigned_session: bool = Field(
        default=False, description="Send requests without credentials, for public buckets."
    )


DEFAULTS = S3Settings()


def endpoint_of(settings: S3Settings) -> str:
    """Return the endpoint's URL from settings and variables; empty for Amazon's or a profile's.

    Raises:
        ConfigurationError: It holds a user or password.
    """
    found = (os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name))
    return check_no_password(settings.endpoint_url or next(found, ""), "the S3 endpoint")


def s3_arguments(settings: S3Settings) -> dict[str, Any]:
    """Return the arguments of obstore's `from_url` for these settings.

    These are `config`, `client_options` and, for a profile, `credential_provider`.

    Raises:
        ConfigurationError: The endpoint is not safe; the profile is missing or cannot be read.
    """
    session = _session(settings)
    profile = session.get_scoped_config() if session else {}
    endpoint = endpoint_of(settings) or profile.get("endpoint_url", "")
    is_plain = _is_plain_http(endpoint, settings)
    config: dict[str, Any] = {
        # TLS already protects a put; without it, the signature over the content detects a wrong
        # byte.
        "unsigned_payload": not is_plain,
        "skip_signature": settings.use_unsigned_session,
    }
    if endpoint:
        config["endpoint"] = endpoint
    if region := settings.region_name or profile.get("region"):
        config["region"] = region
    arguments: dict[str, Any] = {
        "config": config,
        "client_options": {
            "allow_http": is_plain,
            "allow_invalid_certificates": settings.verify is False,
        },
    }
    if session:
        from obstore.auth.boto3 import Boto3CredentialProvider

        arguments["credential_provider"] = Boto3CredentialProvider(session)
    return arguments


def _session(settings: S3Settings) -> "Session | None":
    """Return the session of a profile; None if keys or roles are found without one.

    The order is boto3's.
    """
    if settings.use_unsigned_session:
        return None
    name = settings.profile_name
    if not name and os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    name = name or os.environ.get("AWS_PROFILE")
    has_files = any(
        Path(os.environ.get(variable, path)).expanduser().is_file()
        for variable, path in PROFILE_FILES.items()
    )
    if not name and (not has_files or any(os.environ.get(variable) for variable in ROLE_VARIABLES)):
        return None
    return _open_session(name)


def _open_session(name: str | None) -> "Session | None":
    try:
        import boto3  # noqa: F401 obstore's provider needs it too
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise ConfigurationError(
            f"the AWS profile {name or 'default'} is read by boto3, which is not installed here: "
            "pip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    session = Session(profile=name)
    try:
        found = session.get_credentials()
    except BotoCoreError as error:
        known = ", ".join(session.available_profiles) or "none"
        raise ConfigurationError(
            f"AWS profile {name or 'default'}: {error}; known profiles: {known}"
        ) from error
    if not found and name:
        raise ConfigurationError(
            f"AWS profile {name} has no credentials: run aws configure --profile {name}"
        )
    return session if found else None


def _is_plain_http(endpoint: str, settings: S3Settings) -> bool:
    """Return whether the endpoint is http, which is allowed on this machine, or on request."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    allowed = not settings.use_ssl or os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1")
    if not _is_loopback(host) and not allowed:
        raise ConfigurationError(
            f"the S3 endpoint http://{host} sends data unencrypted: use https, or set "
            "AWS_ALLOW_HTTP=true"
        )
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
