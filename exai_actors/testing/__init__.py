"""The shipped test kit: a broker in the test's process, probes, scripted upstreams."""
