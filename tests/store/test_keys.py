import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.errors import Invalid
from vsp.store import keys


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "v1/c/2023/11/14/1700000000000000-1700000000000000-0.mp4",
        "v1/c/2023/11/14/manifest.json",
        "-/_",
        "x" * keys.NAME_CHARACTERS_MAX,
    ],
)
def test_our_keys_pass(key: str):
    assert keys.check_key(key) == key


@given(st.text(alphabet="aZ0._-/\\ \x00é", max_size=12))
def test_a_key_that_passes_stays_in_its_folder(key: str):
    try:
        keys.check_key(key)
    except Invalid:
        return
    assert all(name and not name.startswith(".") for name in key.split("/"))
    assert not set(key) & set("\\ \x00é")


@given(st.text(alphabet="ab./-", max_size=12), st.text(alphabet="ab.-/", max_size=12))
def test_every_beginning_of_a_key_is_a_prefix(head: str, tail: str):
    try:
        keys.check_key(head + tail)
    except Invalid:
        return
    if head.rpartition("/")[2] != "" or head.endswith("/") or not head:
        assert keys.check_prefix(head) == head


def test_keys_and_names_have_lengths():
    longest = "/".join(["x" * 127] * 4)
    assert len(longest) == keys.KEY_CHARACTERS_MAX - 1
    assert keys.check_key(longest + "y")
    with pytest.raises(Invalid):
        keys.check_key(longest + "yy")
    with pytest.raises(Invalid):
        keys.check_key("x" * (keys.NAME_CHARACTERS_MAX + 1))


def test_parts_and_ranges_have_limits():
    keys.check_part(1, 1)
    keys.check_part(keys.PART_NUMBER_MAX, keys.PART_BYTES_MAX)
    keys.check_range("k", 0, keys.READ_BYTES_MAX)
    for number, size in ((0, 1), (keys.PART_NUMBER_MAX + 1, 1), (1, keys.PART_BYTES_MAX + 1)):
        with pytest.raises(Invalid):
            keys.check_part(number, size)
    with pytest.raises(Invalid):
        keys.check_range("k", 0, keys.READ_BYTES_MAX + 1)


def test_metadata_is_copied_and_bounded():
    given_metadata = {"codec": "h264"}
    copied = keys.check_metadata(given_metadata)

    assert copied == given_metadata
    assert copied is not given_metadata
    assert keys.check_metadata({f"n{n}": "" for n in range(keys.METADATA_MAX)})
    assert keys.check_metadata({"a": "x" * (keys.METADATA_CHARACTERS_MAX - 1)})
    with pytest.raises(Invalid):
        keys.check_metadata({"a": "x" * keys.METADATA_CHARACTERS_MAX})
