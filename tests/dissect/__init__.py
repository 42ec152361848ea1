"""Tests of the dissectors."""
