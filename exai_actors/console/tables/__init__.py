"""The tables that consoles can watch: their columns, and how their rows are made."""
