"""The child process: serves the model until its standard input ends, as it does with its parent.

``python -m exai_actors.daemon.local_model.server PORT SLOTS`` prints ``ready`` once it answers.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading

from exai_actors.daemon.local_model.parts import MODEL, weights

TOKENS_PER_SLOT = 8192
"""All that the model was trained for."""


def serve(port: int, slots: int) -> None:
    """Serve until standard input ends, even while the model is being loaded."""
    ending = threading.Thread(target=_end_with_input, daemon=True)
    ending.start()
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = slots * TOKENS_PER_SLOT
    # Answers of each family, and calls of tools, need the model's own template.
    params.use_jinja = True
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # More threads than cores wait for each other by spinning; one core stays with the broker.
    threads = max(1, (os.cpu_count() or 1) - 1)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    sys.stdout.write(f"ready {server.listening_address}\n")
    sys.stdout.flush()
    ending.join()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    # Other threads may be in the middle of an answer, which has no reader any more.
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
