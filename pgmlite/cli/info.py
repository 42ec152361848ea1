"""``info``."""


def info() -> int:
    return 0
