"""Tests of `pgmlite.wire`."""
