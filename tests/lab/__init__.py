"""Tests of whole processes in network namespaces."""
