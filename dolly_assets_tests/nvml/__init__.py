"""A stand-in for NVIDIA's libnvidia-ml.so.1, scripted per scenario, for machines without a GPU.

It is compiled when first asked for. Real nvidia-ml-py runs above it, in any process that is started
with the environment variables of a scenario: the dynamic loader reads them only at a process's
start.
"""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SCENARIOS = sorted(file.stem for file in (HERE / "scenarios").glob("*.txt"))


def scenario(name: str) -> dict[str, str]:
    """The environment variables under which a process sees the scenario's GPUs.

    `name` is one of `SCENARIOS`, described in the files of `scenarios/`; nvml_2019.c says how they
    are written.
    """
    return environment(HERE / "scenarios" / f"{name}.txt")


def environment(script: Path) -> dict[str, str]:
    """As `scenario`, for a script of one's own.

    A name that begins with `driver_2019` gets the library of 2019.
    """
    source = "nvml_2019.c" if script.stem.startswith("driver_2019") else "nvml.c"
    search_path = [_compiled(source).name, os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, search_path)),
        "NVML_SCRIPT": str(script),
    }


@functools.cache
def _compiled(source: str) -> tempfile.TemporaryDirectory[str]:
    """The folder of the compiled library; it goes with this process."""
    folder = tempfile.TemporaryDirectory(prefix="nvml-")
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(
        [*command, "-o", f"{folder.name}/libnvidia-ml.so.1", str(HERE / source), "-lm"], check=True
    )
    return folder
