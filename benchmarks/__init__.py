"""The figures of README.md, each printed by its command: `make bench NAME=x`.

One file a figure. A figure is the median of several repetitions; cost is CPU time where it can be,
because machines are shared; a peer is measured in the same run, in turns with us. What a figure
leaves out stands at the top of its file.
"""
