"""``python -m pgmlite``."""

from pgmlite.cli import main

main()
