"""Input and output at the rim; nothing is decided here."""
