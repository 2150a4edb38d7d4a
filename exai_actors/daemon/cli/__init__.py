"""The command line `exai`."""
