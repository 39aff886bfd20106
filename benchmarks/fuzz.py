"""Feed parsers with broken input, guided by what the input reaches in them.

    python benchmarks/fuzz.py TARGET [TARGET …] [--seconds 600] [--out FOLDER]
    python benchmarks/fuzz.py --list

The targets are those of dolly_assets_tests/untrusted.py. Needs `pip install atheris`, which is no
dependency of the project. Whatever comes out of a parser but an error of our own counts as a
finding, and so does an input that takes more than a second; both are kept in the folder, named by
what went wrong.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path

MOST_INPUT_BYTES = 8192
MOST_SECONDS = 1.0  # of one input, in CPU time
MOST_MEMORY_MB = 3000  # of the process, torch included
WORDS = (b"NaN", b"-1", b"1e999", b"\\ud800", b"\xff", b"null", b"[[[[[[[[", b'{"":' * 8, b"9" * 20)


def main() -> None:
    """Print, of each target, how many inputs were tried, what they reached, and what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("fuzzing"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        _fuzz(arguments.targets[0], arguments.out, arguments.seconds)
    from dolly_assets_tests.untrusted import TARGETS

    if arguments.list:
        print("\n".join(TARGETS))
    for target in arguments.targets:
        print(_outcome(target, arguments.out / target, arguments.seconds), flush=True)


def _outcome(target: str, out: Path, seconds: int) -> str:
    out.mkdir(parents=True, exist_ok=True)
    inside = [sys.executable, __file__, target, "--inside"]
    done = subprocess.run(
        [*inside, "--seconds", str(seconds), "--out", str(out)],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    (out / "log").write_text(done.stderr)
    inputs = re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    found = sorted(path.name for path in out.glob("found-*"))
    edges, features = reached[-1] if reached else ("?", "?")
    return (
        f"{target}: {int(inputs[-1]) if inputs else 0:,} inputs, {edges} edges, {features} "
        f"features, {len(found)} findings {' '.join(found)} (exit {done.returncode})"
    )


def _fuzz(target: str, out: Path, seconds: int) -> None:
    """Fuzz in this process, which ends with it."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["dolly_assets"]):
        from dolly_assets.core.errors import DollyError
        from dolly_assets_tests.untrusted import TARGETS
    parse, examples = TARGETS[target]

    def try_one(data: bytes) -> None:
        began = time.process_time()
        try:
            parse(data)
        except DollyError:
            pass
        except Exception as error:  # noqa: BLE001 that is what is looked for
            _keep(out, data, error)
        if time.process_time() - began > MOST_SECONDS:
            (out / "found-slow").write_bytes(data)

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        for number, example in enumerate(examples()):
            (corpus / f"example-{number}").write_bytes(example)
        dictionary = out / "words"
        dictionary.write_text(_dictionary(examples()))
        options = {
            "max_total_time": seconds,
            "max_len": MOST_INPUT_BYTES,
            "rss_limit_mb": MOST_MEMORY_MB,
            "timeout": 60,
            "dict": dictionary,
            "artifact_prefix": f"{out}/found-",
        }
        settings = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *settings, str(corpus)], try_one)
        atheris.Fuzz()


def _keep(out: Path, data: bytes, error: Exception) -> None:
    """Keep the first, then the shortest, input of each kind of error at each place."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/dolly_assets/" in frame.filename] or frames
    place = f"{Path(own[-1].filename).stem}-{own[-1].lineno}"
    file = out / f"found-{type(error).__name__}-{place}"
    if not file.exists() or file.stat().st_size > len(data):
        file.write_bytes(data)


def _dictionary(examples: list[bytes]) -> str:
    """Return libFuzzer's dictionary of the words of examples and of what often goes wrong."""
    words = {*WORDS, *(word for text in examples for word in re.findall(rb"\w{2,24}", text))}
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in sorted(words))
    return "".join(f'"{word}"\n' for word in escaped)


if __name__ == "__main__":
    main()
