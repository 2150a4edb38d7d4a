"""One exchange of a client over HTTP: its request and its response."""
