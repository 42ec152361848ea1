"""pgmlite: push one file to any number of machines over IP multicast.

The rings, and what each may import::

    cli -> {net, sim} -> core -> wire -> errors
"""

from importlib.metadata import version

__version__ = version("pgmlite")
