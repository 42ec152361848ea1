"""Tests of `pgmlite.net.doctor`, each module apart."""
