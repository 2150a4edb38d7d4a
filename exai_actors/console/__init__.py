"""The broker as operators see it: tables of its parts, fed to consoles."""
