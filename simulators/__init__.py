"""Simulated GB/T 28181 devices: real SIP, real media, faults on demand.

  python -m simulators camera --platform 127.0.0.1:5060 --password ... [--transport tcp]
  python -m simulators nvr --channels 4 --loss 0.01 ...
  python -m simulators demo --scenario demo.json        many devices in one process
  python -m simulators fleet --count 2000 --secret S    thousands of them
  python -m simulators relay --listen 127.0.0.2:20000-20399 --to 127.0.0.1 --loss 0.01
                                                        a bad line in front of anything

or, in a test:

  camera = Camera(DeviceSpec.camera(gb_id, password), platform, clips=clips, seed=1)
  await camera.start(); await camera.registered(timeout_s=5); ...; await camera.stop()

What is ours here and what is shared. SIP messages, framing, transactions and dialogs are the
platform's own core (`vsp.sip.core`), since RFC 3261 has one meaning. Everything that GB/T 28181
adds is written a second time, from the standard's worked examples: MANSCDP bodies and SDP
(`templates.py`), digest (`digest.py`), program stream (`ps.py`), so that a clause misread on one
side does not agree with itself on the other. tests/architecture forbids the shortcut.

From the bottom up:

  chance faults spec       seeded ids, skewed clocks; every fault by name; what a device is
  picture clip             the 60 s loop: bar code, clock, name; encoded once and cached
  nal ps rtp g711          one access unit -> SEI -> program stream -> RTP packets
  pacer media              one timer for all streams of the process; sockets of one stream
  digest templates         what the device says
  line registration desk   its way to the platform; registering; answering questions
  calls ua                 its calls; all of it as one pure state machine
  device camera nvr        sockets and tasks around it
  network                  links of a world on virtual time: lost, late, overtaken, cut
  relay                    the same between real sockets, UDP and TCP
  demo fleet               many devices in one process; thousands of them
  process __main__         processes
"""
