"""The decisions of one session: its window, its outcomes, its conversations."""
