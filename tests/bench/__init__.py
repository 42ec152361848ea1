"""Measurements and long proofs, run by hand."""
