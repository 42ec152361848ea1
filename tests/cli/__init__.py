"""Tests of `pgmlite.cli`."""
