"""A real Postgres, and S3 over HTTP (moto's server), as deploy/instance/dagster.yaml wants them."""

from collections.abc import Iterator

import pytest

from dolly_assets_tests.deploy.services import LOGS_BUCKET, Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A Postgres server with an empty database."""
    with running_postgres() as database:
        yield database


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The variables by which a server with the bucket for logs is reached."""
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "DOLLY_LOGS_BUCKET": LOGS_BUCKET,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=LOGS_BUCKET)
    yield variables
    moto.stop()
