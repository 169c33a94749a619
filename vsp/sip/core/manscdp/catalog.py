from dataclasses import dataclass
from vsp.model.device import CatalogItem, Charset
from vsp.sip.core.manscdp.envelope import Body
@dataclass(frozen=True, slots=True)
class CatalogPage:
    """One page. sum_num None when absent; num = attribute Num; items exclude those without DeviceID."""
    sn: int
    device_id: str
    sum_num: int | None
    num: int | None
    items: tuple[CatalogItem, ...]
def encode_query(sn: int, device_id: str, charset: Charset = Charset.GB2312) -> bytes: ...
def parse_response(body: Body) -> CatalogPage: ...
