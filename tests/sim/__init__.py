"""Tests of `pgmlite.sim`."""
