# syntax=docker/dockerfile:1.7
# The worker, which runs on the machines with GPUs: torch and DeepSpeed, no Dagster.
# torch's wheels contain the CUDA libraries that they need. A recipe with one of DeepSpeed's own optimizers compiles it on the
# machine: build with CUDA_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04 for those. `make image-pins` adds the digest.
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04

# hadolint ignore=DL3006
FROM ${CUDA_IMAGE} AS base
# Debian and Ubuntu remove superseded versions: a pinned one breaks the build within weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/dolly
WORKDIR /src
# A machine that runs orchestrator and worker (deploy/compose/) builds with EXTRAS=orchestrator,worker.
ARG EXTRAS=worker
COPY requirements requirements
# The packages are a layer of their own, so that a change of our code does not reinstall them.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/dolly/bin/pip install --no-deps --require-hashes \
    --requirement requirements/build.txt --requirement requirements/torch.txt \
    && IFS=, \
    && for side in ${EXTRAS}; do \
         /opt/dolly/bin/pip install --no-deps --require-hashes --requirement "requirements/${side}.txt" || exit 1; \
       done
COPY pyproject.toml README.md LICENSE ./
COPY dolly_assets dolly_assets
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/dolly/bin/pip install --no-deps --no-build-isolation . && /opt/dolly/bin/pip check

FROM base
RUN groupadd --gid 10001 dolly \
    && useradd --uid 10001 --gid dolly --no-create-home --home-dir /var/lib/dolly --shell /usr/sbin/nologin dolly \
    && install -d -o dolly -g dolly /var/lib/dolly /opt/dagster/dagster_home
COPY --from=build /opt/dolly /opt/dolly
# The name under which the image is pushed, for GPU profiles; Jobs of workers set it themselves.
ARG IMAGE_NAME=
ENV DOLLY_IMAGE=${IMAGE_NAME} \
    PATH=/opt/dolly/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DOLLY_HOME=/var/lib/dolly \
    DAGSTER_HOME=/opt/dagster/dagster_home \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /var/lib/dolly
USER 10001:10001
CMD ["python", "-c", "import dolly_assets; print('dolly_assets', dolly_assets.__version__, 'worker: a launcher gives the command')"]
