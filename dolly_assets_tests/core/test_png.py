"""Charts as pictures, read back by a decoder."""

import io

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
