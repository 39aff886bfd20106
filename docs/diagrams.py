"""The two diagrams of the architecture page, drawn as SVG: `python -m docs.diagrams` writes them.

An SVG follows the reader's colour scheme by itself, and has a ground of its own, so that it stays
legible where a page and a browser disagree on it.
"""

from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
WIDTH = 1000

STYLE = """
  .ground { fill: #ffffff; stroke: #d5dae2 } .label { stroke: #ffffff }
  .text { fill: #1f2430 } .small { fill: #566070 }
  .line { stroke: #5f6b7c; fill: none } .head { fill: #5f6b7c } .life { stroke: #b9c1cd }
  .plain { fill: #f5f6f8; stroke: #9aa4b2 } .band { fill: #fafbfc; stroke: #d5dae2 }
  .dagster { fill: #e8f0fc; stroke: #4a7fd4 } .torch { fill: #fdf0e1; stroke: #cf8527 }
  .store { fill: #e5f4ea; stroke: #3a9459 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #171a21; stroke: #343b47 } .label { stroke: #171a21 }
    .text { fill: #e8ebf1 } .small { fill: #a7b0be }
    .line { stroke: #98a3b3 } .head { fill: #98a3b3 } .life { stroke: #47505e }
    .plain { fill: #252a33; stroke: #6c7685 } .band { fill: #1c2028; stroke: #343b47 }
    .dagster { fill: #1d2c45; stroke: #6d9ce6 } .torch { fill: #3d2c17; stroke: #dd9f4f }
    .store { fill: #1a3525; stroke: #5cb57b }
  }
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-size: 15px }
  .title { font-weight: 600 } .small { font-size: 13.5px } .line { stroke-width: 1.4 }
  .label { paint-order: stroke; stroke-width: 4px; stroke-linejoin: round }
"""


class Drawing:
    """An SVG under construction: shapes are drawn in the order in which they are added."""

    def __init__(self, height: int, title: str) -> None:
        self._title, self._height = title, height
        self._shapes: list[str] = []

    def text(
        self, x: float, y: float, text: str, kind: str = "text", anchor: str = "start"
    ) -> None:
        """Add a line of text."""
        place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
        self._shapes.append(f'<text {place} class="{kind}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, *lines: str) -> None:
        """Add a box with a title and smaller lines below it, centred."""
        shape = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._shapes.append(f'<rect {shape} rx="7" class="{kind}"/>')
        top = y + height / 2 + 5 - 9.5 * (len(lines) - 1)
        for number, line in enumerate(lines):
            style = "small" if number else "text title"
            self.text(x + width / 2, top + 19 * number, line, style, "middle")

    def band(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """Add a region that groups boxes."""
        shape = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._shapes.append(f'<rect {shape} rx="10" class="band"/>')
        self.text(x + 14, y + 22, title, "small title")

    def arrow(self, *points: tuple[float, float], is_dashed: bool = False) -> None:
        """Add a line through the points, with an arrowhead at the last one."""
        path = " ".join(f"{'L' if n else 'M'}{x:g} {y:g}" for n, (x, y) in enumerate(points))
        dashes = ' stroke-dasharray="5 4"' if is_dashed else ""
        self._shapes.append(f'<path d="{path}" class="line" marker-end="url(#head)"{dashes}/>')

    def life(self, x: float, top: float, bottom: float) -> None:
        """Add the lifeline of a participant."""
        self._shapes.append(f'<path d="M{x:g} {top:g} L{x:g} {bottom:g}" class="life"/>')

    def svg(self) -> str:
        """Return the document."""
        head = (
            '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
            ' markerHeight="7" orient="auto-start-reverse">'
            '<path d="M0 0 L10 5 L0 10 z" class="head"/></marker>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}"'
                f' role="img" aria-label="{escape(self._title)}">',
                f"<title>{escape(self._title)}</title>",
                f"<style>{STYLE}</style>",
                f"<defs>{head}</defs>",
                f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{self._height - 1}" rx="12"'
                ' class="ground"/>',
                *self._shapes,
                "</svg>\n",
            ]
        )


def architecture() -> str:
    """Draw the parts of the system, and what passes between them."""
    draw = Drawing(670, "From a family's YAML to epochs in the store and events in Dagster")
    draw.band(20, 20, 960, 285, "Orchestrator: Dagster, no torch")
    family = ("Model family", "defs/NAME/defs.yaml", "checked by family.py")
    draw.box(40, 62, 172, 80, "plain", *family)
    draw.box(258, 62, 172, 80, "dagster", "Components", "components/", "YAML → assets, jobs")
    draw.box(484, 62, 176, 80, "dagster", "Assets and checks", "assets/", "dagster_support/")
    draw.box(768, 62, 192, 80, "dagster", "Launchers", "launchers/", "this machine, or a Job")
    draw.arrow((212, 102), (256, 102))
    draw.arrow((430, 92), (482, 92))
    draw.arrow((660, 92), (766, 92))
    draw.text(713, 84, "WorkerSpec", "small", "middle")
    draw.arrow((768, 114), (662, 114), is_dashed=True)
    draw.text(714, 132, "messages", "small", "middle")
    starts = ("Ways to start a run", "cli/ and pipeline/ · automation/ · the UI")
    draw.box(40, 214, 390, 72, "dagster", *starts)
    draw.arrow((430, 250), (458, 250), (458, 118), (482, 118))
    draw.box(484, 214, 176, 72, "dagster", "Dagster's event log", "lineage, plots, checks")
    draw.arrow((572, 142), (572, 212))
    draw.text(582, 174, "materialization:", "small")
    draw.text(582, 193, "version = digest", "small")

    draw.band(250, 338, 730, 142, "Worker: torch and DeepSpeed, no Dagster")
    draw.box(768, 378, 192, 80, "torch", "Ranks", "worker/", "tasks, publishing")
    draw.box(518, 378, 200, 80, "torch", "Libraries", "tokenization/ training/", "generation/")
    draw.box(270, 378, 190, 80, "torch", "Profiler", "profiling/", "sampler, reports")
    draw.arrow((830, 142), (830, 376))
    draw.text(822, 327, "starts, with the spec as JSON", "small", "end")
    draw.arrow((884, 378), (884, 144), is_dashed=True)
    draw.text(892, 327, "name, digest", "small")
    draw.arrow((768, 406), (720, 406))
    draw.arrow((768, 434), (743, 434), (743, 469), (365, 469), (365, 460))

    draw.band(464, 514, 516, 136, "Object store: a folder, S3, GCS, Azure")
    artifacts = ("Artifacts", "storage/: blobs named by SHA-256,", "one manifest per publication")
    draw.box(484, 552, 476, 80, "store", *artifacts)
    registry = ("Registry", "registry/: addresses, kinds,", "typed attributes, queries")
    draw.box(20, 552, 392, 80, "plain", *registry)
    draw.arrow((884, 458), (884, 550))
    draw.text(876, 502, "blobs first, manifest last", "small", "end")
    draw.arrow((464, 592), (414, 592))
    draw.arrow((110, 552), (110, 307))
    draw.text(120, 412, "read back by", "small")
    draw.text(120, 431, "assets, CLI, UI", "small")
    draw.text(120, 450, "and notebooks", "small")
    return draw.svg()


LIVES = {
    "run": ("Run", "assets/", "dagster"),
    "launcher": ("Launcher", "launchers/", "dagster"),
    "ranks": ("Ranks", "worker/", "torch"),
    "profiler": ("Profiler", "profiling/", "torch"),
    "store": ("Store", "storage/", "store"),
    "events": ("Dagster", "event log", "dagster"),
}
STEPS = [
    ("run", "store", "which of epochs 1–3 are published?"),
    ("run", "launcher", "spec: epochs, digests"),
    ("launcher", "ranks", "torchrun, or a Job"),
    ("store", "ranks", "base model and rows, verified"),
    ("ranks", "profiler", "start sampling"),
    ("ranks", "ranks", "preflight, self-check, steps of epoch 1"),
    ("ranks", "ranks", "end of epoch 1: copy the state to host memory"),
    ("ranks", "ranks", "steps of epoch 2 begin, while a thread publishes epoch 1:"),
    ("ranks", "profiler", "build the report"),
    ("profiler", "store", "gpu_profile/…/01"),
    ("ranks", "store", "every rank: its own files"),
    ("ranks", "store", "rank 0: the manifest, in one put"),
    ("ranks", "launcher", "name and digest"),
    ("launcher", "run", "on_message"),
    ("store", "run", "read the manifest"),
    ("run", "events", "materialization of demo|01, version = digest"),
    ("events", "events", "evaluation of epoch 1 starts"),
]


def epoch() -> str:
    """Draw the life of an epoch, from the request to the materialization, as a sequence."""
    top, gap = 96, 41
    height = top + gap * len(STEPS) + 42
    draw = Drawing(height, "The life of an epoch, from the request to its materialization")
    places = {name: 90 + 164 * number for number, name in enumerate(LIVES)}
    for name, (title, folder, kind) in LIVES.items():
        draw.life(places[name], 74, height - 16)
        draw.box(places[name] - 72, 20, 144, 54, kind, title, folder)
    for number, (source, target, label) in enumerate(STEPS):
        y = top + gap * (number + 0.65)
        here, there = places[source], places[target]
        if source == target:
            side = -1 if source == "events" else 1
            out = here + side * 22
            draw.arrow((here, y - 8), (out, y - 8), (out, y + 8), (here + side * 2, y + 8))
            draw.text(out + side * 7, y + 4, label, "small label", "end" if side < 0 else "start")
        else:
            step = 2 if there > here else -2
            is_answer = label in ("on_message", "name and digest")
            draw.arrow((here, y), (there - step, y), is_dashed=is_answer)
            draw.text((here + there) / 2, y - 8, label, "small label", "middle")
    return draw.svg()


DIAGRAMS = {"architecture.svg": architecture, "epoch.svg": epoch}


def main() -> None:
    """Write both diagrams."""
    for name, draw in DIAGRAMS.items():
        (IMAGES / name).write_text(draw())


if __name__ == "__main__":
    main()
