"""Lists a prefix of S3 in which objects have names that obstore cannot read.

Beside one object called `a//b` or with a control character in its name, obstore lists none at all.
In a prefix that others write to, one odd upload would hide everything.
"""

import os
from urllib.parse import urlsplit

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.object_store import ObjectInfo
from dolly_assets.storage.s3 import S3Settings, endpoint_of

REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


def list_any_names(url: str, s3: S3Settings) -> list[ObjectInfo]:
    """Return every object below a URL, by its key there, whatever it is called.

    Args:
        url: `s3://bucket/prefix`.
        s3: The connection.

    Raises:
        ArtifactError: The prefix cannot be listed, or boto3 is not installed.
    """
    try:
        from botocore import UNSIGNED
        from botocore.client import Config
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session
    except ImportError as error:
        raise ArtifactError(
            f"{url}: some objects have names that only boto3 can list: pip install boto3, or "
            "delete those with // or a control character in their names"
        ) from error
    bucket, prefix = urlsplit(url).netloc, urlsplit(url).path.strip("/")
    below = f"{prefix}/" if prefix else ""
    region = s3.region_name or next(filter(None, map(os.environ.get, REGION_VARIABLES)), None)
    try:
        client = Session(profile=s3.profile_name).create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint_of(s3) or None,
            verify=s3.verify,
            config=Config(
                signature_version=UNSIGNED if s3.use_unsigned_session else None,
                retries={"total_max_attempts": s3.max_attempts},
            ),
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below)
        return [
            ObjectInfo(
                item["Key"].removeprefix(below), item["Size"], item["LastModified"], item["ETag"]
            )
            for page in pages
            for item in page.get("Contents", ())
        ]
    except (BotoCoreError, ClientError) as error:
        raise ArtifactError(f"{url}: cannot be listed: {error}") from error
