"""How actors run: pykka actors on one event loop."""
