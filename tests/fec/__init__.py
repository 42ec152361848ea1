"""Tests of `pgmlite.fec`."""
