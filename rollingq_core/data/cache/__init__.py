"""Prepared samples on disk: how they are built, and how they are read."""
