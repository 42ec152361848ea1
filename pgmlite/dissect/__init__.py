"""Dissectors made from the declaration of the format."""
