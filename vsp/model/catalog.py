"""What a catalogue item is: a picture, a folder or something else. Pure; used by `sip` and `store`.

The rule is GB/T 28181-2016 annex D table D.1 (digits 11-13 of a code) with the practice of the
field: 131 and 132 are pictures; main devices (111-130) and 138 are pictures only when nothing hangs
below them, as single-channel encoders report themselves so; everything else is never INVITEd.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vsp.model.device import CatalogItem
from vsp.model.ids import GbId

GB_ID_DIGITS = 20
CAMERA_TYPES = frozenset({"131", "132"})
MAIN_DEVICE_TYPES = frozenset({str(code) for code in range(111, 131)} | {"138"})
FOLDER_TYPES = frozenset({"200", "215", "216"})


def type_code(gb_id: str) -> str:
    """Digits 11-13 of a 20-digit code; empty for civil codes and anything malformed."""
    if len(gb_id) != GB_ID_DIGITS or not (gb_id.isascii() and gb_id.isdigit()):
        return ""
    return gb_id[10:13]


def is_folder(gb_id: str) -> bool:
    """Civil codes (2-8 digits), systems 200, business groups 215, virtual organisations 216."""
    short = len(gb_id) < GB_ID_DIGITS and gb_id.isascii() and gb_id.isdigit()
    return short or type_code(gb_id) in FOLDER_TYPES


def is_playable(gb_id: str, parental: bool, has_children: bool) -> bool:
    """Whether a picture can be asked of this item.

    parental      what the item says of itself (`Parental` = 1)
    has_children  whether another item of the same device names it as a parent
    """
    code = type_code(gb_id)
    if code in CAMERA_TYPES:
        return True
    return code in MAIN_DEVICE_TYPES and not parental and not has_children


def parents_named(items: Iterable[CatalogItem]) -> set[str]:
    """Every code that another item names as its parent. Naming oneself makes nobody a parent."""
    return {parent for item in items for parent in item.parent_ids if parent != item.gb_id}


def playable_of(item: CatalogItem, parents: Collection[str]) -> bool:
    """`is_playable` of an item, given the codes that are parents (`parents_named`)."""
    return is_playable(item.gb_id, item.parental, item.gb_id in parents)


def parent_of(item: CatalogItem) -> GbId:
    """The one parent shown in a tree: first named parent, else group, else the shorter civil code.

    ParentID may join several by "/", may name the item itself, and civil nodes carry none
    (GB/T 28181-2016 annex J; the parent of a civil code is the code without its last two digits).
    """
    for parent in item.parent_ids:
        if parent and parent != item.gb_id:
            return GbId(parent)
    if item.business_group_id and item.business_group_id != item.gb_id:
        return GbId(item.business_group_id)
    if not type_code(item.gb_id) and is_folder(item.gb_id):
        return GbId(item.gb_id[:-2])
    return GbId("")
