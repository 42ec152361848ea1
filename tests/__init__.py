"""Tests of pgmlite, by ring; generators of what is generated; measurements."""
