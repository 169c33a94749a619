from __future__ import annotations

import dataclasses

import pytest

from simulators.__main__ import faults_of, main, parser, platform_of, spec_of
from simulators.faults import Faults, SsrcFault
from vsp.model.device import Transport
from vsp.model.stream import VideoCodec

MINIMAL = ["--password", "12345678"]


def options(kind: str, *more: str):
    return parser().parse_args([kind, *MINIMAL, *more])


def test_a_camera_needs_only_a_password():
    spec = spec_of(options("camera"))

    assert (spec.kind, spec.gb_id, len(spec.channels)) == ("camera", "34020000001320000001", 1)
    assert spec.faults == Faults()
    assert spec.video.codec is VideoCodec.H264
    assert platform_of(options("camera")).port == 5060


def test_an_nvr_has_as_many_channels_as_it_is_told():
    spec = spec_of(options("nvr", "--channels", "3", "--name", "录像机", "--transport", "tcp"))

    assert [channel.name for channel in spec.channels] == [f"录像机 0{i}" for i in (1, 2, 3)]
    assert spec.channels[0].gb_id == "34020000001320000101"
    assert spec.transport is Transport.TCP


def test_the_platform_is_an_address():
    assert platform_of(options("camera", "--platform", "10.0.0.7:5070")).host == "10.0.0.7"
    for wrong in ("10.0.0.7", ":5060", "host:x"):
        with pytest.raises(SystemExit):
            platform_of(options("camera", "--platform", wrong))


FLAGS = {
    "loss": (["--loss", "0.1"], 0.1),
    "reorder": (["--reorder", "0.1"], 0.1),
    "dup": (["--dup", "0.1"], 0.1),
    "sip_loss": (["--sip-loss", "0.1"], 0.1),
    "silent_death_after_s": (["--silent-death-after", "5"], 5.0),
    "ssrc": (["--ssrc", "zero"], SsrcFault.ZERO),
    "no_y": (["--no-y"], True),
    "slow_catalog_s": (["--slow-catalog", "9"], 9.0),
    "catalog_sumnum_lie": (["--catalog-sumnum-lie", "-2"], -2),
    "catalog_page_size": (["--catalog-page-size", "8"], 8),
    "no_psm": (["--no-psm"], True),
    "split_pes": (["--split-pes"], True),
    "bd_packets": (["--bd-packets"], True),
    "slow_answer_s": (["--slow-answer", "8"], 8.0),
    "busy": (["--busy"], True),
    "clock_skew_s": (["--clock-skew", "-30"], -30.0),
    "gbk_names": (["--gbk-names"], True),
    "label": (["--label", "UTF-8"], "UTF-8"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_each_fault_has_a_flag_that_sets_it_and_nothing_else(name: str):
    flags, value = FLAGS[name]

    faults = faults_of(options("camera", *flags))

    assert faults == dataclasses.replace(Faults(), **{name: value})


def test_no_fault_is_without_a_flag():
    assert set(FLAGS) == {field.name for field in dataclasses.fields(Faults)}


def test_every_fault_is_explained(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        parser().parse_args(["camera", "--help"])

    text = capsys.readouterr().out
    for flags, _ in FLAGS.values():
        assert f"{flags[0]} " in text


def test_habits_and_media_reach_the_device():
    spec = spec_of(
        options(
            "camera",
            *("--expires", "7200", "--keepalive", "20", "--retry", "5", "--register-jitter", "3"),
            *("--codec", "h265", "--size", "1280x720", "--gop", "25", "--no-audio", "--rtcp"),
            *("--max-streams", "2", "--charset", "UTF-8", "--gb-version", "3.0"),
        )
    )

    assert (spec.timing.expires_s, spec.timing.keepalive_s, spec.timing.retry_s) == (7200, 20, 5)
    assert (spec.video.codec, spec.video.width) == (VideoCodec.H265, 1280)
    assert (spec.video.gop_frames, spec.video.audio, spec.video.rtcp) == (25, False, True)
    assert (spec.max_streams, spec.charset, spec.gb_version) == (2, "UTF-8", "3.0")


def test_what_cannot_be_run_ends_with_2_and_a_sentence(capsys: pytest.CaptureFixture):
    assert main(["nvr", *MINIMAL, "--channels", "0"]) == 2

    assert "1 to 10000 channels" in capsys.readouterr().err
