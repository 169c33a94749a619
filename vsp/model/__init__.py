"""The nouns of the platform: frozen dataclasses and enums, no I/O, no SQL, no XML.

Read `ids` first, then `device` (who sends), `stream` (what flows), `recording` (what is kept),
`people` (who may), `changes` (what became of it). Words are those of docs/GLOSSARY.md.
"""
