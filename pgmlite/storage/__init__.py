"""Disks: the source of a sender, the partial file of a receiver. See `part` and `source`."""
