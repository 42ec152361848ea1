"""Where a received object goes beyond its partial file: one module a kind."""
