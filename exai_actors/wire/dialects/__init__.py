"""The two dialects, each a reader (frames in) and a writer (answers out)."""
