"""Captures: files of packets, what their frames carry, and the receiver that is driven by them."""
