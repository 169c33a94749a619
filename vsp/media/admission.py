"""Who may look: a viewer with a ticket, admitted to the view that the node told us to expect.

Ticket and view must agree, and a view has one viewer. Without a good ticket nobody learns whether a
view exists.
"""

from __future__ import annotations

from collections.abc import Callable

from vsp.errors import Conflict, Denied, NotFound
from vsp.media.live import Socket, View
from vsp.model.ids import UtcMicros, ViewId
from vsp.model.people import Ticket
from vsp.ports import Clock


class Admission:
    """The door between viewers' sockets and views.

    find     the view of an id, if this worker has it
    verify   the ticket of a text, if it is ours and not expired; raises Denied
    on_over  told when an admitted viewer is served no more, with the cause
    """

    def __init__(
        self,
        clock: Clock,
        find: Callable[[ViewId], View | None],
        verify: Callable[[str, UtcMicros], Ticket],
        on_over: Callable[[View, str], None],
    ) -> None:
        self._clock = clock
        self._find = find
        self._verify = verify
        self._on_over = on_over

    def admit(self, text: str, kind: str, view_id: ViewId) -> View:
        """The view, once the ticket is good for it and nobody holds it."""
        ticket = self._verify(text, self._clock.now_us())
        if (ticket.view_id, ticket.kind) != (view_id, kind):
            raise Denied("the media ticket is for another view")
        view = self._find(view_id)
        if view is None or view.spec.kind.value != kind:
            raise NotFound("the view has ended", next_step="open the view again")
        if view.spec.channel_id != ticket.channel_id:
            raise Denied("the media ticket is for another channel")
        if view.attached:
            raise Conflict("the view has its viewer already", next_step="open a view of your own")
        view.attached = True
        return view

    async def serve(self, view: View, socket: Socket) -> None:
        """Until the viewer goes or the view ends."""
        cause = "the viewer's connection broke"
        try:
            cause = await view.run(socket)
        finally:
            self._on_over(view, cause)


__all__ = ["Admission"]
