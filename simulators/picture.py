"""What the simulated camera sees: a bar code, a name, a clock, and something that moves.

The bar code holds the milliseconds within the minute, for programs that look at pictures (a test
that reads a canvas in a browser). Geometry, in cells of width/32 by height/18, from the top-left
corner of the picture, 14 columns by 2 rows, all light or dark:

  row 0:  light  dark   d15 d14 d13 d12 d11 d10 d9 d8 d7 d6 d5 d4
  row 1:  dark   light  d3  d2  d1  d0  c7  c6  c5 c4 c3 c2 c1 c0

  d  the number 0..59999, c  its CRC-8 (polynomial 07, start FF, over the two bytes high, low)

The four fixed cells give the threshold (their mean) and show that there is a code at all. To read:
scale nothing, take the mean of the middle half of each cell. Cells are 20 x 20 pixels at 640x360,
10 x 10 at 320x180.

The rest is for people: the label, the second and millisecond `SS.mmm`, the number of the frame in
the loop, a textured block that wanders, all on a colour of the channel's own.
"""

from __future__ import annotations

import colorsys
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]

BARCODE_GRID_COLUMNS = 32
BARCODE_GRID_ROWS = 18
BARCODE_COLUMNS = 14
BARCODE_ROWS = 2
BARCODE_DATA_BITS = 16
BARCODE_CHECK_BITS = 8
BARCODE_LIGHT = 235
BARCODE_DARK = 16
BARCODE_CONTRAST_MIN = 64
"""Grey levels between light and dark under which there is no code to read."""

MINUTE_MS = 60_000

# 5 x 7 letters, a row a number, the highest of five bits on the left.
_GLYPHS = {
    " ": (0, 0, 0, 0, 0, 0, 0),
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 6, 8, 16, 31),
    "3": (30, 1, 1, 14, 1, 1, 30),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 4, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    "A": (4, 10, 17, 17, 31, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (28, 18, 17, 17, 17, 18, 28),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 25, 21, 19, 19, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 10, 10, 4),
    "W": (17, 17, 17, 21, 21, 27, 17),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
    "Z": (31, 1, 2, 4, 8, 16, 31),
    ".": (0, 0, 0, 0, 0, 12, 12),
    ":": (0, 12, 12, 0, 12, 12, 0),
    "-": (0, 0, 0, 31, 0, 0, 0),
    "/": (1, 1, 2, 4, 8, 16, 16),
    "?": (14, 17, 1, 2, 4, 0, 4),
}
_GLYPH_COLUMNS = 6
_GLYPH_ROWS = 9
GRAIN_PICTURES = 8
GRAIN_LEVELS = 6
"""Sensor grain: this many pictures of noise in turn, up to so many grey levels either way, so that
the coded stream has the weight of a camera's and not of a slide show."""

GOLDEN_ANGLE_DEG = 137.508
"""Successive channels turn the colour wheel by this: the hues never come near one another."""


def text_mask(text: str, scale: int) -> NDArray[np.bool_]:
    """`text` as a bitmap with a margin, letters 5x7 at `scale` pixels a dot."""
    mask = np.zeros((_GLYPH_ROWS, _GLYPH_COLUMNS * len(text) + 1), np.bool_)
    for index, letter in enumerate(text.upper()):
        for row, bits in enumerate(_GLYPHS.get(letter, _GLYPHS["?"])):
            for column in range(5):
                mask[row + 1, index * _GLYPH_COLUMNS + 1 + column] = bits >> (4 - column) & 1
    return mask.repeat(scale, axis=0).repeat(scale, axis=1)


def crc8(value: int) -> int:
    """CRC-8 of a 16-bit number, high byte first: polynomial 07, start FF."""
    crc = 0xFF
    for byte in (value >> 8 & 0xFF, value & 0xFF):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def barcode_cells(ms: int) -> NDArray[np.bool_]:
    """The 2 x 14 cells for `ms` (0..59999); True is light."""
    bits = [ms >> i & 1 for i in reversed(range(BARCODE_DATA_BITS))]
    check = crc8(ms)
    bits += [check >> i & 1 for i in reversed(range(BARCODE_CHECK_BITS))]
    return np.array([[1, 0, *bits[:12]], [0, 1, *bits[12:]]], np.bool_)


def _cell_means(luma: Luma) -> NDArray[np.float64]:
    height, width = luma.shape
    cell_w, cell_h = width / BARCODE_GRID_COLUMNS, height / BARCODE_GRID_ROWS
    means = np.empty((BARCODE_ROWS, BARCODE_COLUMNS))
    for row in range(BARCODE_ROWS):
        top, bottom = int((row + 0.25) * cell_h), max(1, int((row + 0.75) * cell_h))
        for column in range(BARCODE_COLUMNS):
            left, right = int((column + 0.25) * cell_w), max(1, int((column + 0.75) * cell_w))
            means[row, column] = luma[top:bottom, left:right].mean()
    return means


def read_barcode(luma: Luma) -> int | None:
    """Milliseconds within the minute in a whole picture of any size, or None if it shows none.

    luma  (height, width), at least 64 x 36, the uncropped picture
    """
    means = _cell_means(luma)
    light = (means[0, 0] + means[1, 1]) / 2
    dark = (means[0, 1] + means[1, 0]) / 2
    if light - dark < BARCODE_CONTRAST_MIN:
        return None
    cells = means > (light + dark) / 2
    if not (cells[0, 0] and cells[1, 1]) or cells[0, 1] or cells[1, 0]:
        return None
    number = 0
    for bit in [*cells[0, 2:], *cells[1, 2:]]:
        number = number << 1 | int(bit)
    ms, check = number >> BARCODE_CHECK_BITS, number & 0xFF
    return ms if check == crc8(ms) and ms < MINUTE_MS else None


def hue_deg(label: str) -> float:
    """The colour of a channel, from its label: series apart, and within a series by number."""
    series = label.rstrip("0123456789")
    number = int(label[len(series) :] or 0)
    return (number * GOLDEN_ANGLE_DEG + zlib.crc32(series.encode())) % 360


@dataclass(frozen=True, slots=True)
class _Block:
    """The wandering block: its picture and the box in which it moves."""

    texture: Luma
    top: int
    travel: int


class Painter:
    """Draws the frames of one loop. Everything that stands still is drawn once."""

    def __init__(self, label: str, width: int, height: int) -> None:
        assert width % 16 == 0, "chroma rows are stored behind luma rows of the same width"
        assert height % 4 == 0, "two chroma rows share one stored row"
        self._width, self._height = width, height
        self._unit = max(1, width // 320)
        self._still = self._draw_still(label)
        self._block = self._draw_block(label)
        noise = np.random.default_rng(zlib.crc32(label.encode()))
        shape = (GRAIN_PICTURES, height, width)
        self._grain = noise.integers(-GRAIN_LEVELS, GRAIN_LEVELS + 1, shape, np.int8).view(np.uint8)

    def frame(self, index: int, ms: int) -> NDArray[np.uint8]:
        """Planar yuv420p of shape (height * 3 / 2, width)."""
        picture = self._still.copy()
        picture[: self._height] += self._grain[
            index % GRAIN_PICTURES
        ]  # modulo 256: grain is signed
        self._paint_block(picture, index)
        self._paint_barcode(picture, ms)
        self._paint_text(picture, f"{ms / 1000:06.3f}", top=self._height * 12 // 18, scale=3)
        self._paint_text(picture, f"{index:04d}", top=self._height * 15 // 18, scale=2)
        return picture

    def _draw_still(self, label: str) -> NDArray[np.uint8]:
        height, width = self._height, self._width
        picture = np.empty((height * 3 // 2, width), np.uint8)
        picture[:height] = np.linspace(70, 150, width)[None, :]
        picture[:height] += ((np.arange(height) // (height // 18)) % 2 * 8).astype(np.uint8)[
            :, None
        ]
        red, green, blue = colorsys.hsv_to_rgb(hue_deg(label) / 360, 0.6, 0.6)
        picture[height : height * 5 // 4] = round(
            128 + 224 * (-0.148 * red - 0.291 * green + 0.439 * blue)
        )
        picture[height * 5 // 4 :] = round(128 + 224 * (0.439 * red - 0.368 * green - 0.071 * blue))
        self._paint_text(picture, label, top=height * 3 // 18, scale=3)
        return picture

    def _draw_block(self, label: str) -> _Block:
        side = self._height // 6 // 2 * 2
        noise = np.random.default_rng(zlib.crc32(label.encode()))
        texture = noise.integers(60, 220, (side // 4 + 1, side // 4 + 1), dtype=np.uint8)
        texture = texture.repeat(4, axis=0).repeat(4, axis=1)[:side, :side]
        return _Block(texture, top=self._height * 8 // 18, travel=self._width - side)

    def _paint_block(self, picture: NDArray[np.uint8], index: int) -> None:
        block = self._block
        side = block.texture.shape[0]
        step = index * 4 * self._unit % (2 * block.travel)
        left = min(step, 2 * block.travel - step)
        picture[block.top : block.top + side, left : left + side] = block.texture

    def _paint_barcode(self, picture: NDArray[np.uint8], ms: int) -> None:
        cells = np.where(barcode_cells(ms), BARCODE_LIGHT, BARCODE_DARK).astype(np.uint8)
        cell_w = self._width // BARCODE_GRID_COLUMNS
        cell_h = self._height // BARCODE_GRID_ROWS
        image = cells.repeat(cell_h, axis=0).repeat(cell_w, axis=1)
        picture[: image.shape[0], : image.shape[1]] = image

    def _paint_text(self, picture: NDArray[np.uint8], text: str, top: int, scale: int) -> None:
        mask = text_mask(text, scale * self._unit)
        left = 8 * self._unit
        room = self._width - left
        mask = mask[:, :room]
        area = picture[top : top + mask.shape[0], left : left + mask.shape[1]]
        area[...] = np.where(mask, BARCODE_LIGHT, BARCODE_DARK)


__all__ = [
    "BARCODE_CHECK_BITS",
    "BARCODE_COLUMNS",
    "BARCODE_DATA_BITS",
    "BARCODE_GRID_COLUMNS",
    "BARCODE_GRID_ROWS",
    "BARCODE_ROWS",
    "MINUTE_MS",
    "Painter",
    "barcode_cells",
    "crc8",
    "hue_deg",
    "read_barcode",
    "text_mask",
]
