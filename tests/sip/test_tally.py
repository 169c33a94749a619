"""Counts put off, never lost."""

from tests.sip.fakes import CountedMetrics
from vsp.sip.tally import Tally


def test_counts_arrive_at_the_flush_summed_by_label():
    metrics = CountedMetrics()
    tally = Tally(metrics)
    for _ in range(3):
        tally.count("vsp_sip_requests", method="MESSAGE")
    tally.count("vsp_sip_requests", method="REGISTER")
    tally.count("vsp_sip_keepalives", 2)
    assert metrics.counts == {}

    tally.flush()

    assert metrics.counts == {
        "vsp_sip_requests MESSAGE": 3,
        "vsp_sip_requests REGISTER": 1,
        "vsp_sip_keepalives": 2,
    }


def test_a_second_flush_adds_nothing():
    metrics = CountedMetrics()
    tally = Tally(metrics)
    tally.count("vsp_sip_keepalives")
    tally.flush()

    tally.flush()

    assert metrics.counts["vsp_sip_keepalives"] == 1


def test_gauges_and_observations_pass_at_once():
    metrics = CountedMetrics()
    tally = Tally(metrics)

    tally.gauge("vsp_devices", 7, presence="online")
    tally.observe("vsp_sip_request_seconds", 0.1, method="INVITE")

    assert metrics.counts == {"vsp_devices online": 7, "vsp_sip_request_seconds INVITE": 1}
