"""`python -m simulators camera|nvr|demo`. Each fault's help names what it imitates."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from simulators import camera, demo, nvr
from simulators.clip import DEFAULT_CACHE
from simulators.faults import Faults, SsrcFault
from simulators.spec import SIZES, DeviceSpec, PlatformSpec, Timing
from vsp.errors import VspError
from vsp.model.device import Transport


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    kinds = top.add_subparsers(dest="kind", required=True)
    for kind, gb_id in (("camera", camera.DEFAULT_GB_ID), ("nvr", nvr.DEFAULT_GB_ID)):
        sub = kinds.add_parser(kind, help=f"one {kind}")
        _add_identity(sub, kind, gb_id)
        _add_habits(sub)
        _add_media(sub)
        _add_faults(sub)
    many = kinds.add_parser("demo", help="many devices in one process", description=demo.__doc__)
    many.formatter_class = argparse.RawDescriptionHelpFormatter
    many.add_argument("--scenario", type=Path, required=True, metavar="FILE", help="JSON, as above")
    return top


def _add_identity(sub: argparse.ArgumentParser, kind: str, gb_id: str) -> None:
    default = PlatformSpec("127.0.0.1", 5060)
    add = sub.add_argument_group("who and where").add_argument
    add("--platform", default=f"{default.host}:{default.port}", metavar="HOST:PORT")
    add("--platform-id", default=default.gb_id, metavar="ID", help="20 digits")
    add("--domain", default=default.domain, help="SIP domain and digest realm")
    add("--gb-id", default=gb_id, metavar="ID", help="20 digits (2016 annex D)")
    add("--username", default="", help="for the digest; the gb-id unless given")
    add("--password", required=True)
    add("--name", default="", help="DeviceName and channel name")
    add("--channel-id", default="", metavar="ID", help="code of the (first) channel")
    if kind == "nvr":
        add("--channels", type=int, default=4, metavar="N")
    add("--bind", default="127.0.0.1", metavar="HOST", help="own address for SIP and media")
    add("--bind-port", type=int, default=0, metavar="PORT", help="own SIP port; 0 takes a free one")
    add("--transport", choices=[t.value for t in Transport], default="udp", help="of SIP")
    add("--seed", type=int, default=0, help="fixes tags, SSRCs, jitter and chance")


def _add_habits(sub: argparse.ArgumentParser) -> None:
    default = Timing()
    add = sub.add_argument_group("habits").add_argument
    add("--expires", type=int, default=default.expires_s, metavar="S", help="2016 9.1")
    add("--register-jitter", type=float, default=1.0, metavar="S", help="wait up to S at first")
    add(
        "--retry",
        type=float,
        default=default.retry_s,
        metavar="S",
        help="after a failed registration wait S to 2 S (2016 9.1.2.1: 60 s)",
    )
    add("--keepalive", type=float, default=default.keepalive_s, metavar="S", help="2016 9.6")
    add(
        "--keepalive-misses",
        type=int,
        default=default.keepalive_misses,
        metavar="N",
        help="unanswered Keepalives until the device registers again",
    )
    add("--gb-version", default="2.0", metavar="M.N", help="X-GB-Ver (2022 annex I)")
    add(
        "--charset",
        default="GB2312",
        metavar="LABEL",
        help="of XML bodies: GB2312, GBK, GB18030 (all sent as GB 18030) or UTF-8",
    )
    add(
        "--max-streams",
        type=int,
        default=0,
        metavar="N",
        help="further INVITEs get 486 (2016 annex F); 0 is no cap",
    )


def _add_media(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("media").add_argument
    add("--codec", choices=["h264", "h265"], default="h264")
    add("--size", choices=[f"{w}x{h}" for w, h in SIZES], default="640x360")
    add("--fps", type=int, default=25)
    add("--gop", type=int, default=50, metavar="FRAMES")
    add("--no-audio", action="store_true", help="no G.711A in the program stream")
    add("--rtcp", action="store_true", help="sender reports every 5 s over UDP (RFC 3550 6.4)")
    add("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="pre-encoded clips")
    add("--sent-log", type=Path, metavar="FILE", help="one JSON line for each picture sent")


def _add_faults(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("faults, all off by default").add_argument
    for name, doing in (("loss", "vanish"), ("reorder", "be late"), ("dup", "come twice")):
        add(
            f"--{name}",
            type=float,
            default=0.0,
            metavar="P",
            help=f"chance of an RTP packet to {doing}",
        )
    add("--sip-loss", type=float, default=0.0, metavar="P", help="SIP datagrams that vanish")
    add(
        "--silent-death-after",
        type=float,
        metavar="S",
        help="power cut after S: no answer, no BYE, no unregister (offline by 2016 9.6)",
    )
    add(
        "--ssrc",
        type=SsrcFault,
        choices=list(SsrcFault),
        default=SsrcFault.NONE,
        help="wrong: own number in y= and RTP (Hikvision); zero: 0 in RTP (Dahua)",
    )
    add("--no-y", action="store_true", help="200 OK without y= (many; annex F wants it)")
    add(
        "--slow-catalog",
        type=float,
        default=0.0,
        metavar="S",
        help="first catalogue page after S (large lower platforms)",
    )
    add(
        "--catalog-sumnum-lie",
        type=int,
        default=0,
        metavar="N",
        help="SumNum is wrong by N (annex A.2.6; several)",
    )
    add("--catalog-page-size", type=int, default=1, metavar="N", help="items of one message")
    add("--no-psm", action="store_true", help="no program stream map (annex C.1; small vendors)")
    add("--split-pes", action="store_true", help="pictures in PES of at most 2,000 bytes")
    add("--bd-packets", action="store_true", help="private_stream_1 between PES (Hikvision)")
    add(
        "--slow-answer",
        type=float,
        default=0.0,
        metavar="S",
        help="S seconds between 100 and 200 of an INVITE (camera start-up)",
    )
    add("--busy", action="store_true", help="486 with Warning 399 to each INVITE (Hikvision)")
    add("--clock-skew", type=float, default=0.0, metavar="S", help="the device's clock is ahead")
    add("--gbk-names", action="store_true", help="GBK characters labelled GB2312 (Hikvision)")
    add("--label", default="", help="encoding written into XML whatever the bytes (Uniview)")


def platform_of(options: argparse.Namespace) -> PlatformSpec:
    host, _, port = options.platform.rpartition(":")
    if not host or not port.isdigit():
        raise SystemExit("--platform is HOST:PORT")
    return PlatformSpec(host, int(port), options.platform_id, options.domain)


def spec_of(options: argparse.Namespace) -> DeviceSpec:
    """The device that the command line describes."""
    common = {
        "channel_id": options.channel_id,
        "username": options.username,
        "transport": Transport(options.transport),
        "bind_host": options.bind,
        "bind_port": options.bind_port,
        "gb_version": options.gb_version,
        "charset": options.charset,
        "max_streams": options.max_streams,
        "timing": Timing(
            expires_s=options.expires,
            register_jitter_s=options.register_jitter,
            retry_s=options.retry,
            keepalive_s=options.keepalive,
            keepalive_misses=options.keepalive_misses,
        ),
        "video": demo.video_of(
            options.codec,
            options.size,
            fps=options.fps,
            gop_frames=options.gop,
            audio=not options.no_audio,
            rtcp=options.rtcp,
        ),
        "faults": faults_of(options),
        "sent_log": options.sent_log,
    }
    if options.kind == "camera":
        return camera.camera_spec(options.gb_id, options.password, name=options.name, **common)
    name = options.name or "NVR"
    return nvr.nvr_spec(
        options.gb_id, options.password, channels=options.channels, name=name, **common
    )


def faults_of(options: argparse.Namespace) -> Faults:
    return Faults(
        loss=options.loss,
        reorder=options.reorder,
        dup=options.dup,
        sip_loss=options.sip_loss,
        silent_death_after_s=options.silent_death_after,
        ssrc=options.ssrc,
        no_y=options.no_y,
        slow_catalog_s=options.slow_catalog,
        catalog_sumnum_lie=options.catalog_sumnum_lie,
        catalog_page_size=options.catalog_page_size,
        no_psm=options.no_psm,
        split_pes=options.split_pes,
        bd_packets=options.bd_packets,
        slow_answer_s=options.slow_answer,
        busy=options.busy,
        clock_skew_s=options.clock_skew,
        gbk_names=options.gbk_names,
        label=options.label,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 after an orderly stop, 2 when it cannot be run as asked."""
    options = parser().parse_args(arguments)
    try:
        if options.kind == "demo":
            return demo.main(options.scenario)
        spec, platform = spec_of(options), platform_of(options)
        asyncio.run(demo.run_until_stopped([spec], platform, options.cache, options.seed))
    except VspError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
