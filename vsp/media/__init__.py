"""The media plane: RTP in, pictures and recordings out, in worker processes of its own.

`ingest` reads sockets, `stream` ties one session together, `hub` fans out to `live` viewers,
`recorder` cuts segments into the `spool` and up to the object store, `journal` keeps what the node
has not yet committed, `playback` reads it back, `http` is the viewers' listener, `control` the
node's, `worker` owns them all. `core` is pure and knows no socket. Nothing here knows a database,
a user or a secret; `vsp/worker.py` composes a process of it.
"""
