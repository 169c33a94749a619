from collections.abc import Mapping
from vsp.model.device import Charset
from vsp.sip.core.manscdp.envelope import Body
def encode_query(sn: int, device_id: str, charset: Charset = Charset.GB2312) -> bytes: ...
def parse_response(body: Body) -> Mapping[str, str]:
    """Leaf elements by name as written (Result, Online, Status, Reason, Encode, Record, DeviceTime),
    and one `Alarm <device id>` -> DutyStatus per Alarmstatus item."""
