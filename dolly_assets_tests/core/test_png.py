"""Charts as pictures, read back by a decoder."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dolly_assets.core.png import png


def test_a_picture_shows_what_was_drawn_in_its_colours_and_few_bytes() -> None:
    rows = [{"x": number, "y": number**0.5} for number in range(200)]
    chart = {
        "data": {"values": rows},
        "mark": {"type": "area", "color": "#cc2200"},
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "y": {"field": "y", "type": "quantitative"},
        },
        "width": 300,
        "height": 100,
    }
    drawn = png(chart)
    with Image.open(io.BytesIO(drawn)) as picture:
        width, height = picture.size
        assert width >= 300
        assert height >= 100
        colours = picture.convert("RGB").getcolors()
    assert colours
    (most, second) = (colour for _, colour in sorted(colours, reverse=True)[:2])
    assert {most, second} == {(255, 255, 255), (0xCC, 0x22, 0)}
    with Image.open(io.BytesIO(png(chart, scale=2))) as twice:
        assert twice.size == (2 * width, 2 * height)
    assert len(drawn) < 6000


DRAW = """
import hashlib, os
from dolly_assets.core.png import png

drawn = png({"data": {"values": [{"x": 1}]}, "mark": "point", "title": "Tokens per example: ÄÖж"})
print(hashlib.sha256(drawn).hexdigest(), os.environ.get("FONTCONFIG_FILE"))
"""
FONTS = "<fontconfig><dir>{folder}</dir></fontconfig>"


@pytest.mark.slow
def test_a_picture_is_the_same_whatever_fonts_the_machine_has(tmp_path: Path) -> None:
    """vl-convert brings a font, and would prefer the machine's if it has the like."""
    drawn = set()
    for number, folder in enumerate(("/usr/share/fonts", tmp_path)):
        fonts = tmp_path / f"{number}.conf"
        fonts.write_text(FONTS.format(folder=folder))
        output = subprocess.run(
            [sys.executable, "-c", DRAW],
            env={**os.environ, "FONTCONFIG_FILE": str(fonts)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        digest, left_in_environment = output.split()
        assert left_in_environment == str(fonts)
        drawn.add(digest)
    assert len(drawn) == 1
