"""Tests of `pgmlite.net`."""
