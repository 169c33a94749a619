"""`python -m simulators camera|nvr|demo|fleet|relay`. Each fault's help names what it imitates."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulators import camera, demo, fleet, nvr, relay
from simulators.clip import DEFAULT_CACHE
from simulators.faults import Faults, SsrcFault
from simulators.fleet import FleetSpec
from simulators.relay import Impairment, Relay, Route
from simulators.spec import SIZES, DeviceSpec, PlatformSpec, Timing
from vsp.errors import Invalid, VspError
from vsp.model.device import RecordPlan, Transport


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
    herd = kinds.add_parser("fleet", help="thousands of devices", description=fleet.__doc__)
    herd.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_fleet(herd)
    _add_habits(herd)
    _add_media(herd)
    _add_faults(herd)
    line = kinds.add_parser("relay", help="a bad line", description=relay.WORDS)
    line.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_route(line)
    _add_impairment(line)
    return top


def _add_identity(sub: argparse.ArgumentParser, kind: str, gb_id: str) -> None:
    add = sub.add_argument_group("who and where").add_argument
    _add_platform(add)
    add("--gb-id", default=gb_id, metavar="ID", help="20 digits (2016 annex D)")
    add("--username", default="", help="for the digest; the gb-id unless given")
    add("--password", required=True)
    add("--name", default="", help="DeviceName and channel name")
    add("--channel-id", default="", metavar="ID", help="code of the (first) channel")
    if kind == "nvr":
        add("--channels", type=int, default=4, metavar="N")
    add("--bind-port", type=int, default=0, metavar="PORT", help="own SIP port; 0 takes a free one")
    add("--transport", choices=[t.value for t in Transport], default="udp", help="of SIP")


def _add_platform(add: Callable[..., object]) -> None:
    default = PlatformSpec("127.0.0.1", 5060)
    add("--platform", default=f"{default.host}:{default.port}", metavar="HOST:PORT")
    add("--platform-id", default=default.gb_id, metavar="ID", help="20 digits")
    add("--domain", default=default.domain, help="SIP domain and digest realm")
    add("--bind", default="127.0.0.1", metavar="HOST", help="own address for SIP and media")
    add("--seed", type=int, default=0, help="fixes tags, SSRCs, jitter and chance")


def _add_fleet(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("who and where").add_argument
    _add_platform(add)
    add("--count", type=int, default=2000, metavar="N", help="devices")
    add("--first-gb-id", default="", metavar="ID", help="20 digits; the others count on from it")
    add("--secret", required=True, help="every password is made from it and from the code")
    add("--channels", type=int, default=1, metavar="N", help="of each; above 1: recorders")
    add(
        "--transport",
        choices=["udp", "tcp", "mixed"],
        default="udp",
        help=f"of SIP; mixed: each {fleet.TCP_EVERY}th device over TCP",
    )
    add(
        "--rate",
        type=float,
        default=fleet.RATE_PER_S,
        metavar="N",
        help="devices switched on in a second",
    )
    add(
        "--streams-max",
        type=int,
        default=fleet.STREAMS_MAX,
        metavar="N",
        help="of the whole fleet at once; a further INVITE gets 500",
    )
    add("--status-every", type=float, default=0.0, metavar="S", help="a JSON line on stdout")
    add("--csv", action="store_true", help="print the sheet for the platform's import and end")
    add(
        "--record",
        type=RecordPlan,
        choices=list(RecordPlan),
        help="plan of recording in that sheet; the platform's own unless given",
    )


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


def _add_route(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("from where to where").add_argument
    add(
        "--listen",
        required=True,
        metavar="HOST:PORT[-PORT]",
        help="a port, 0 for a free one, or a range of ports",
    )
    add("--to", required=True, metavar="HOST[:PORT]", help="the same ports, or those from PORT on")
    add("--transport", choices=["udp", "tcp", "both"], default="both")
    add(
        "--upstream-host",
        default="",
        metavar="HOST",
        help="own address towards the target, which may ask where media comes from",
    )
    add(
        "--rtp-pairs",
        action="store_true",
        help="even ports carry RTP and the next ones its RTCP: keep pairs together",
    )
    add("--idle", type=float, default=relay.FLOW_IDLE_S, metavar="S", help="of a UDP client")
    add("--seed", type=int, default=0, help="fixes the fate of each packet of a flow")


def _add_impairment(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("impairment, both ways, none by default")
    default = Impairment()
    for flag, name, metavar, text in (
        ("delay", "delay_s", "S", "of everything"),
        ("jitter", "jitter_s", "S", "up to this on top, drawn for each packet; keeps the order"),
        ("loss", "loss", "P", "chance to vanish; over TCP to be sent again"),
        ("reorder", "reorder", "P", "chance to be overtaken; over TCP to hold up what follows"),
        ("reorder-by", "reorder_s", "S", "how long such a packet is held back"),
        ("dup", "duplicate", "P", "chance of a datagram to come twice"),
        ("rate", "rate_bytes_per_s", "BYTES", "a second, of UDP and of TCP each; 0 is no limit"),
        ("queue", "queue_bytes", "BYTES", "what may wait for the rate"),
    ):
        group.add_argument(
            f"--{flag}",
            dest=name,
            type=float,
            default=getattr(default, name),
            metavar=metavar,
            help=text,
        )
    for way in ("up", "down"):
        group.add_argument(
            f"--{way}",
            default="",
            metavar="NAME=VALUE,...",
            help=f"otherwise on the way {way}: {', '.join(_IMPAIRMENTS)}",
        )


_IMPAIRMENTS = [one.name for one in dataclasses.fields(Impairment)]


def relay_of(options: argparse.Namespace) -> Relay:
    """The relay that the command line describes. Raises Invalid."""
    host, first, last = _ports(options.listen)
    to_host, _, to_port = options.to.partition(":")
    if to_port and not to_port.isdigit():
        raise Invalid("--to is HOST or HOST:PORT")
    route = Route(
        host,
        first,
        to_host,
        int(to_port or 0),
        ports=last - first + 1,
        upstream_host=options.upstream_host,
        udp=options.transport != "tcp",
        tcp=options.transport != "udp",
        rtp_pairs=options.rtp_pairs,
    )
    both = Impairment(**{name: getattr(options, name) for name in _IMPAIRMENTS})
    up, down = (dataclasses.replace(both, **_changes(text)) for text in (options.up, options.down))
    return Relay(route, seed=options.seed, up=up, down=down, idle_s=options.idle)


def _ports(listen: str) -> tuple[str, int, int]:
    host, _, ports = listen.rpartition(":")
    first, _, last = ports.partition("-")
    if not host or not first.isdigit() or not (last or first).isdigit():
        raise Invalid("--listen is HOST:PORT or HOST:PORT-PORT")
    return host, int(first), int(last or first)


def _changes(text: str) -> dict[str, float]:
    """`loss=0.1,delay_s=0.2`. Raises Invalid."""
    changes: dict[str, float] = {}
    for word in filter(None, text.split(",")):
        name, _, value = word.partition("=")
        if name not in _IMPAIRMENTS:
            raise Invalid(f"{name!r} is not one of {', '.join(_IMPAIRMENTS)}")
        try:
            changes[name] = float(value)
        except ValueError:
            raise Invalid(f"{name} is a number, not {value!r}") from None
    return changes


def platform_of(options: argparse.Namespace) -> PlatformSpec:
    host, _, port = options.platform.rpartition(":")
    if not host or not port.isdigit():
        raise SystemExit("--platform is HOST:PORT")
    return PlatformSpec(host, int(port), options.platform_id, options.domain)


def spec_of(options: argparse.Namespace) -> DeviceSpec:
    """The device that the command line describes."""
    common = {
        **_habits_of(options),
        "channel_id": options.channel_id,
        "username": options.username,
        "transport": Transport(options.transport),
        "bind_port": options.bind_port,
        "sent_log": options.sent_log,
    }
    if options.kind == "camera":
        return camera.camera_spec(options.gb_id, options.password, name=options.name, **common)
    name = options.name or "NVR"
    return nvr.nvr_spec(
        options.gb_id, options.password, channels=options.channels, name=name, **common
    )


def fleet_of(options: argparse.Namespace) -> FleetSpec:
    """The fleet that the command line describes."""
    return FleetSpec(
        **_habits_of(options),
        secret=options.secret,
        count=options.count,
        first_gb_id=options.first_gb_id,
        channels=options.channels,
        transport=options.transport,
        streams_max=options.streams_max,
        rate_per_s=options.rate,
    )


def _habits_of(options: argparse.Namespace) -> dict[str, Any]:
    """What a single device and those of a fleet have in common."""
    return {
        "bind_host": options.bind,
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
    }


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
        if options.kind == "relay":
            return relay.main(relay_of(options))
        if options.kind == "fleet":
            return _fleet(options)
        spec, platform = spec_of(options), platform_of(options)
        asyncio.run(demo.run_until_stopped([spec], platform, options.cache, options.seed))
    except VspError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    return 0


def _fleet(options: argparse.Namespace) -> int:
    if options.csv:
        fleet.write_csv(fleet_of(options), options.record, sys.stdout)
        return 0
    return fleet.main(
        fleet_of(options),
        platform_of(options),
        cache=options.cache,
        seed=options.seed,
        sent_log=options.sent_log,
        status_every_s=options.status_every,
    )


if __name__ == "__main__":
    sys.exit(main())
