"""The command: ``pgmlite``, or ``python -m pgmlite``."""

import sys


def main() -> None:
    """Run it; a Ctrl-C while all the rest is still imported ends it as a later one does."""
    try:
        from pgmlite.cli import main as run

        run()
    except KeyboardInterrupt:
        print("pgmlite: interrupted", file=sys.stderr)
        sys.exit(6)  # EXIT_INTERRUPTED, which may not be imported yet


if __name__ == "__main__":
    main()
