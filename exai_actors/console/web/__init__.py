"""The console in a browser: its panes, the pages that it has without scripts, and its files."""
