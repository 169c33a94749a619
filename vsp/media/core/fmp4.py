"""Fragmented MP4: the names that the media plane uses. `fmp4_write` makes it, `fmp4_read` reads it.

tracks = [video_track(sets)]
init_segment(tracks), mime(tracks)
fragmenter = Fragmenter(tracks); fragmenter.add(au); fragmenter.fragment()

init = parse_init(data)
for fragment in iter_fragments(data, init.size): ...
"""

from vsp.media.core.fmp4_read import (
    FragmentInfo,
    Init,
    Sample,
    iter_fragments,
    parse_init,
    remux,
)
from vsp.media.core.fmp4_write import (
    SAMPLES_MAX,
    Fragment,
    Fragmenter,
    Track,
    audio_track,
    init_segment,
    mime,
    video_track,
)

__all__ = [
    "SAMPLES_MAX",
    "Fragment",
    "FragmentInfo",
    "Fragmenter",
    "Init",
    "Sample",
    "Track",
    "audio_track",
    "init_segment",
    "iter_fragments",
    "mime",
    "parse_init",
    "remux",
    "video_track",
]
