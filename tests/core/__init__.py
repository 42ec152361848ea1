"""Tests of `pgmlite.core`."""
