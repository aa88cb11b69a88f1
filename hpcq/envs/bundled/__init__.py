"""The bundled environments, one family per file."""
