"""Revisions of the schema, one chain for SQLite and PostgreSQL."""
