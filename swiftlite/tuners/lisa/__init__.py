"""LISA: whole layers take turns in being trained."""
