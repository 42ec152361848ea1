"""Tests of `pgmlite.storage`."""
