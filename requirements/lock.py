"""Write the lock: every package that a command installs, with its exact version and its hashes.

Run by `make lock`, which needs `uv`; installing needs pip alone. One resolution holds for Python
3.11 and newer on every platform, and every file in this folder is a part of it:

* `all.txt`: everything but torch, for development and tests
* `docs.txt`: what the documentation site needs besides
* `orchestrator.txt`, `worker.txt`: one side each, without torch
* `playground.txt`: the page of `dolly playground`
* `torch.txt`: torch's default build, with the CUDA libraries that it needs on Linux
* `torch-cpu.txt`: the same release for machines without a GPU, from torch's own index
* `build.txt`: what builds this package itself

Files are known by their hashes, not by addresses, so a mirror or a folder of wheels serves as well
as the public index. It knows what `pyproject.toml` declares, and nothing of what is installed here.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent / "pyproject.toml"
UV = Path(sys.executable).with_name("uv")
# What hatchling builds an editable installation with; it asks for it only then.
EDITABLE = "editables"
TORCH = re.compile(r"(torch==|nvidia-(?!ml-py)|cuda-|triton==)")
# Releases for Linux on x86-64 without CUDA, as torch's own index has them.
FOR_CPUS = {
    "torch==2.13.0": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # Python 3.11
        "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",  # Python 3.12
        "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6",  # Python 3.13
    )
}


def main() -> None:
    """Resolve everything once, and each part within it."""
    upgrade = ("--upgrade",) if "--upgrade" in sys.argv else ()
    extras = [
        f"--extra={name}" for name in ("orchestrator", "worker", "notebook", "signing", "dev")
    ]
    packages = compiled("all", str(PROJECT), *extras, *upgrade)
    parts = {
        side: compiled(side, str(PROJECT), "--extra", side, "--constraints", str(HERE / "all.txt"))
        for side in ("orchestrator", "worker", "playground", "docs")
    }
    parts["docs"] = [package for package in parts["docs"] if package not in packages]
    build = "\n".join([*tomllib.loads(PROJECT.read_text())["build-system"]["requires"], EDITABLE])
    compiled("build", "-", "--constraints", str(HERE / "all.txt"), stdin=build)
    write("torch", filter(TORCH.match, packages))
    write("torch-cpu", [for_cpus(package) for package in packages if package.startswith("torch==")])
    for name, part in {"all": packages, **parts}.items():
        write(name, [package for package in part if not TORCH.match(package)])


def compiled(name: str, source: str, *options: str, stdin: str = "") -> list[str]:
    """Resolve a source: one string for each package, with its version, marker and hashes.

    Versions that the file has already are kept as far as they can be.
    """
    file = HERE / f"{name}.txt"
    form = ("--generate-hashes", "--no-header", "--no-annotate", "--universal")
    command = [UV, "pip", "compile", "--quiet", "--python-version", "3.11", *form, *options]
    subprocess.run([*command, source, "--output-file", file], input=stdin, text=True, check=True)
    return re.findall(r"^\S.*\n(?:[ ]+.*\n)*", file.read_text(), re.MULTILINE)


def write(name: str, packages: Iterable[str]) -> None:
    """Write a part."""
    (HERE / f"{name}.txt").write_text("".join(packages))


def for_cpus(package: str) -> str:
    """Return a release of torch as its build for CPUs."""
    release = package.split()[0]
    if release not in FOR_CPUS:
        sys.exit(f"no hashes of {release} for CPUs: add those of its wheels to FOR_CPUS")
    hashes = [f"    --hash=sha256:{each}" for each in sorted(FOR_CPUS[release])]
    return " \\\n".join([f"{release}+cpu", *hashes]) + "\n"


if __name__ == "__main__":
    main()
