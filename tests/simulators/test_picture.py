import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.picture import (
    BARCODE_DARK,
    BARCODE_GRID_COLUMNS,
    BARCODE_GRID_ROWS,
    BARCODE_LIGHT,
    MINUTE_MS,
    Painter,
    barcode_cells,
    crc8,
    hue_deg,
    read_barcode,
    text_mask,
)


def luma_of(picture: np.ndarray) -> np.ndarray:
    return picture[: picture.shape[0] * 2 // 3]


def painted(ms: int, width: int = 640, height: int = 360) -> np.ndarray:
    """Only the bar code, on grey."""
    luma = np.full((height, width), 128, np.uint8)
    cells = np.where(barcode_cells(ms), BARCODE_LIGHT, BARCODE_DARK).astype(np.uint8)
    cell_h, cell_w = height // BARCODE_GRID_ROWS, width // BARCODE_GRID_COLUMNS
    image = cells.repeat(cell_h, 0).repeat(cell_w, 1)
    luma[: image.shape[0], : image.shape[1]] = image
    return luma


@pytest.mark.parametrize("size", [(640, 360), (320, 180), (1280, 720)])
@pytest.mark.parametrize("ms", [0, 40, 12_360, 59_960])
def test_the_bar_code_of_a_drawn_frame_is_read_back(size: tuple[int, int], ms: int):
    painter = Painter("CAM 03", *size)

    picture = painter.frame(ms // 40, ms)

    assert read_barcode(luma_of(picture)) == ms


@given(st.integers(0, MINUTE_MS - 1))
def test_every_millisecond_of_the_minute_has_its_own_readable_code(ms: int):
    assert read_barcode(painted(ms)) == ms


def test_the_cells_are_those_of_the_description():
    cells = barcode_cells(0b1010_0000_0000_0001)

    assert cells[0].tolist() == [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    check = [crc8(0xA001) >> i & 1 for i in range(7, -1, -1)]
    assert cells[1].tolist() == [0, 1, 0, 0, 0, 1, *check]


def test_the_check_is_a_crc8_with_polynomial_07_from_ff():
    crc = 0xFF
    for bit in f"{0x1234:016b}":
        top = crc >> 7 ^ int(bit)
        crc = (crc << 1 & 0xFF) ^ (0x07 if top else 0)

    assert crc8(0x1234) == crc


@pytest.mark.parametrize("column", range(2, 14))
def test_a_flipped_cell_is_noticed(column: int):
    luma = painted(31_240)
    cell = luma[0:20, column * 20 : column * 20 + 20]
    cell[...] = BARCODE_LIGHT + BARCODE_DARK - cell

    assert read_barcode(luma) is None


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_flat_picture_holds_no_code(level: int):
    assert read_barcode(np.full((360, 640), level, np.uint8)) is None


def test_noise_holds_no_code():
    noise = np.random.default_rng(1).integers(0, 255, (50, 360, 640), dtype=np.uint8)

    assert [read_barcode(luma) for luma in noise] == [None] * 50


def test_a_number_beyond_the_minute_is_no_code():
    assert read_barcode(painted(60_001)) is None


def test_low_contrast_and_blur_do_not_matter():
    luma = painted(47_880).astype(float)
    blurred = luma.copy()
    for shift in (1, 2, 3):
        blurred += np.roll(luma, shift, 1) + np.roll(luma, -shift, 1)
        blurred += np.roll(luma, shift, 0) + np.roll(luma, -shift, 0)
    faint = (blurred / 13 * 0.5 + 60).astype(np.uint8)

    assert read_barcode(faint) == 47_880


@pytest.mark.parametrize("size", [(320, 180), (426, 240), (500, 281), (1920, 1080)])
def test_the_code_survives_scaling(size: tuple[int, int]):
    picture = av.VideoFrame.from_ndarray(Painter("CAM 03", 640, 360).frame(7, 33_280), "yuv420p")

    scaled = picture.reformat(*size, format="gray").to_ndarray()

    assert read_barcode(scaled) == 33_280


def test_letters_have_their_shapes():
    mask = text_mask("I1", 1).astype(int)

    assert mask[1:8, 1:6].tolist()[0] == [0, 1, 1, 1, 0]
    assert mask[1:8, 3].all()
    assert not mask[:, 0].any()
    assert not mask[0].any()
    assert not mask[8].any()


def test_what_has_no_letter_shows_a_question_mark():
    assert (text_mask("门", 2) == text_mask("?", 2)).all()
    assert (text_mask("a", 1) == text_mask("A", 1)).all()


def test_sixteen_channels_have_colours_that_can_be_told_apart():
    hues = sorted(hue_deg(f"CAM {i:02d}") for i in range(1, 17))

    gaps = [b - a for a, b in zip(hues, [*hues[1:], hues[0] + 360], strict=True)]

    assert min(gaps) > 5


def test_two_series_of_channels_differ_in_colour():
    assert abs(hue_deg("CAM 1") - hue_deg("NVR 1")) > 5


def test_the_same_frame_is_drawn_the_same_and_the_next_one_differs():
    painter, other = Painter("CAM 01", 320, 180), Painter("CAM 02", 320, 180)

    first, again, second = painter.frame(5, 200), painter.frame(5, 200), painter.frame(6, 240)

    assert (first == again).all()
    assert (first != second).any()
    assert (first != other.frame(5, 200)).any()


def test_the_block_never_leaves_the_picture():
    painter = Painter("CAM 01", 320, 180)

    pictures = [painter.frame(i, 0) for i in range(0, 1500, 37)]

    assert all(picture.shape == (270, 320) for picture in pictures)
