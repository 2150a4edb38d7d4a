"""The cost of a call, by which fair queueing divides a provider among sessions and tenants.

Cost is prompt + 2 * completion tokens, the weights of the Virtual Token Counter (Sheng et al.,
"Fairness in Serving Large Language Models", arXiv 2401.00588).
"""

from __future__ import annotations

COMPLETION_WEIGHT = 2
"""How many prompt tokens one completion token counts for."""
