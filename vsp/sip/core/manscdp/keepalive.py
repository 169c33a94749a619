from dataclasses import dataclass
@dataclass(frozen=True, slots=True)
class Keepalive:
    sn: int
    device_id: str
    ok: bool
    faulty: tuple[str, ...] = ()
def parse_keepalive(body: bytes) -> Keepalive | None:
    """Fast path; None when it is something else or needs the full parser (`from_body`)."""
def from_body(body: "Body") -> Keepalive: ...
