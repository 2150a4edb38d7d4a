"""The protocol between the broker and its clients, in both dialects."""
