"""MANSCDP, the XML of GB/T 28181 (2016 annex A): one file per command family.

`envelope` turns bytes into a `Body`; each family reads a Body (`parse_response`) and writes the
query that asks for it (`encode_query`), side by side. No I/O, no clock.
"""
