"""The use cases put together from ports, once, for the node and for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vsp.access.authn import Authenticator, SessionRules
from vsp.access.passwords import PasswordHasher
from vsp.access.scope import Access
from vsp.access.ticket import TicketSigner
from vsp.actions.accounts import Accounts
from vsp.actions.alarms import Alarms
from vsp.actions.channels import Channels
from vsp.actions.devices import Devices
from vsp.actions.enquiries import Enquiries
from vsp.actions.overview import Overview
from vsp.actions.views import Streams, Views
from vsp.config import Config
from vsp.model.device import RecordPlan
from vsp.ports import (
    AuditLog,
    ChangeLog,
    Clock,
    DeviceBook,
    Ids,
    Metrics,
    People,
    SegmentIndex,
    SignalControl,
    StreamBook,
)


class Store(Protocol):
    """What is opened (`vsp.store.Store`, or its twin in memory)."""

    @property
    def devices(self) -> DeviceBook: ...
    @property
    def segments(self) -> SegmentIndex: ...
    @property
    def changes(self) -> ChangeLog: ...
    @property
    def audit(self) -> AuditLog: ...
    @property
    def people(self) -> People: ...
    @property
    def streams(self) -> StreamBook: ...


@dataclass(frozen=True, slots=True)
class Books:
    """The ports that the store implements; `vsp.store.Store` has these names."""

    devices: DeviceBook
    segments: SegmentIndex
    changes: ChangeLog
    audit: AuditLog
    people: People
    streams: StreamBook

    @classmethod
    def of(cls, store: Store) -> Books:
        """Those of an open store."""
        return cls(
            store.devices, store.segments, store.changes, store.audit, store.people, store.streams
        )


@dataclass(frozen=True, slots=True)
class Actions:
    """Every use case of the platform, and the clock, chance and counters they run on."""

    access: Access
    authenticator: Authenticator
    accounts: Accounts
    devices: Devices
    enquiries: Enquiries
    channels: Channels
    views: Views
    overview: Overview
    alarms: Alarms
    clock: Clock
    ids: Ids
    metrics: Metrics


def assemble(
    *,
    config: Config,
    books: Books,
    signal: SignalControl,
    streams: Streams,
    signer: TicketSigner,
    hasher: PasswordHasher,
    clock: Clock,
    ids: Ids,
    metrics: Metrics,
    metrics_text: Callable[[], str],
) -> Actions:
    """Wire them. Takes `streams.on_view_ended`; leaves `channels.on_plan_changed` to the caller."""
    access = Access(books.devices, books.audit, clock)
    authenticator = Authenticator(books.people, hasher, clock, ids, _rules(config))
    views = Views(
        streams=streams,
        access=access,
        signer=signer,
        people=books.people,
        book=books.streams,
        clock=clock,
        ids=ids,
        metrics=metrics,
        ticket_life_s=config.web.ticket_life_s,
    )
    accounts = Accounts(
        people=books.people,
        authenticator=authenticator,
        hasher=hasher,
        access=access,
        audit=books.audit,
        clock=clock,
        ids=ids,
        cut_views=views.cut_user,
    )
    devices = Devices(
        book=books.devices,
        signal=signal,
        changes=books.changes,
        access=access,
        clock=clock,
        default_plan=RecordPlan(config.recording.default_plan),
    )
    devices.on_removed = views.cut_device
    channels = Channels(
        book=books.devices,
        signal=signal,
        segments=books.segments,
        changes=books.changes,
        attempts=books.streams,
        streams=streams,
        access=access,
        clock=clock,
    )
    devices.on_changed = channels.device_changed
    overview = Overview(
        book=books.devices,
        people=books.people,
        streams=streams,
        audit=books.audit,
        access=access,
        clock=clock,
        open_views=lambda: views.open_count,
        metrics_text=metrics_text,
    )
    return Actions(
        access=access,
        authenticator=authenticator,
        accounts=accounts,
        devices=devices,
        enquiries=Enquiries(signal=signal, access=access),
        channels=channels,
        views=views,
        overview=overview,
        alarms=Alarms(
            changes=books.changes,
            access=access,
            clock=clock,
            metrics=metrics,
            workers=config.worker_count,
        ),
        clock=clock,
        ids=ids,
        metrics=metrics,
    )


def _rules(config: Config) -> SessionRules:
    web = config.web
    return SessionRules(
        web.session_idle_s, web.session_life_s, web.sign_in_tries, web.sign_in_lock_s
    )
