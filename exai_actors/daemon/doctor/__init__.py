"""The checks of `exai doctor`: everything that a broker on this machine depends on."""
