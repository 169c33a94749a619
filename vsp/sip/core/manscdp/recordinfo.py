from dataclasses import dataclass
from vsp.model.device import Charset
from vsp.model.ids import UtcMicros
from vsp.ports import RecordItem
from vsp.sip.core.manscdp.envelope import Body
@dataclass(frozen=True, slots=True)
class RecordPage:
    sn: int
    device_id: str
    sum_num: int | None
    items: tuple[RecordItem, ...]
def encode_query(sn: int, channel_id: str, start_us: UtcMicros, end_us: UtcMicros, charset: Charset = Charset.GB2312) -> bytes: ...
def parse_response(body: Body) -> RecordPage: ...
