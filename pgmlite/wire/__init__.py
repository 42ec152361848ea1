"""Bytes on the wire to rows and back; knows nothing of behaviour.

`layout` is the one declaration of the format, `derive` turns it into numpy types and tables,
`control` reads and writes the variable parts, and `batch` does the data path.
"""
