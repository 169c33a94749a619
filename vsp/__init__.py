"""vsp: a public-security video sharing platform over GB/T 28181.

The platform in one page. Packages, from the bottom up; each imports only what stands above it here:

  errors model ports clock config   words: nouns, the nine errors, every seam as a Protocol
  link seal logs supervisor run     tools: commands to a worker, sealed secrets, processes
  sip/       signalling: a pure core (parser, transactions, digest, dialogs, MANSCDP), one file with
             sockets (endpoint.py), and what we do with it (registrar, session, directory, command)
  media/     the media plane, run in worker processes: a pure core (RTP, PS, fMP4), then ingest,
             hub, live, recorder, playback
  access/    who may: one pure decision, sign-in, tickets, TLS
  retention/ how long: joins later, nothing is deleted yet
  health/    metrics; the rates join later
  store/     SQL index, object store, audit chain, migrations: the implementations of ports.py
  actions/   use cases, the only writers of intent; each act is permitted and audited here
  web/       the console and the HTTP API: one table of routes, each naming its Action
  jobs.py    reconcilers: what is wanted (rows) against what is (sessions), on a timer
  node.py    the composition root: Config -> a running Node; worker.py, that of a media process
  cli.py     the commands; administer.py, demo.py and doctor.py carry out the longer ones

`sip media access retention health` never import one another nor `store`; tests/architecture holds
that. Start reading with docs/ARCHITECTURE.md: four paths through the code, from a REGISTER to an
expiry.
"""

__version__ = "0.1.0"
