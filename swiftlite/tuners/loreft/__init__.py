"""LoReFT: low-rank edits of what layers hand on, at chosen layers and positions."""
