"""Tests of `pgmlite.capture`."""
