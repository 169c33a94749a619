"""Signalling: SIP and MANSCDP towards cameras, recorders and lower platforms.

    core/        pure: messages, digest, transactions, dialogs, SDP, MANSCDP; bytes in, bytes out
    endpoint     the only sockets; exchange.py is the same without them
    presence     who is there: the table of devices and the rules by which they come and go (pure)
    registrar    REGISTER and heartbeats judged; rows written behind
    admission    which strangers are answered at all
    directory    catalogues asked for, put together, applied
    command      other queries and their answers
    session      INVITE, its dialog, its end
    trace        the last messages of each device, without secrets
    quirks       every tolerance by its name
    service      all of it as one thing: `SignalService`, the `ports.SignalControl`

Start reading with `service.SignalService._on_request`: every message comes through there.
"""
