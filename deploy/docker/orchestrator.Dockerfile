# syntax=docker/dockerfile:1.7
# Code location, daemon, webserver and the runs' own pods: Dagster, no torch. `make image-pins` adds the base's digest.
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/dolly
WORKDIR /src
COPY requirements requirements
# The packages are a layer of their own, so that a change of our code does not reinstall them.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/dolly/bin/pip install --no-deps --require-hashes \
    --requirement requirements/build.txt --requirement requirements/orchestrator.txt
COPY pyproject.toml README.md LICENSE ./
COPY dolly_assets dolly_assets
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/dolly/bin/pip install --no-deps --no-build-isolation . && /opt/dolly/bin/pip check

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 dolly \
    && useradd --uid 10001 --gid dolly --no-create-home --home-dir /var/lib/dolly --shell /usr/sbin/nologin dolly \
    && install -d -o dolly -g dolly /var/lib/dolly /opt/dagster/dagster_home
COPY --from=build /opt/dolly /opt/dolly
ENV PATH=/opt/dolly/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DOLLY_HOME=/var/lib/dolly \
    DAGSTER_HOME=/opt/dagster/dagster_home
WORKDIR /var/lib/dolly
USER 10001:10001
EXPOSE 3030
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "3030", "-m", "dolly_assets.definitions"]
