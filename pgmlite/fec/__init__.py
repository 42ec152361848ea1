"""Forward error correction: which symbols of a block make up which repair symbol, and back.

Pure functions of numbers and bytes (``spec/fec.md``). ``code`` is the definition, ``sums`` and
``elimination`` are the arithmetic, ``codec`` is what the rest of pgmlite uses.
"""
