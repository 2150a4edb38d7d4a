"""Token counts as services send them: the usages of one answer, and the counts that they mean."""

from __future__ import annotations

from typing import Any

from exai_actors.core.calls import Usage

CASES: list[tuple[str, str, list[Any], Usage | None]] = [
    # name, source, the usage of each event in order, the counts of an answer that has text
    ("plain", "own", [{"prompt_tokens": 3, "completion_tokens": 5}], Usage(3, 5)),
    (
        "zeros",
        "router-for-me/CLIProxyAPI#4053",
        [{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}],
        None,
    ),
    (
        "zero_prompt",
        "router-for-me/CLIProxyAPI#3077",
        [{"prompt_tokens": 0, "completion_tokens": 5}],
        None,
    ),
    ("zero_completion_for_text", "own", [{"prompt_tokens": 3, "completion_tokens": 0}], None),
    (
        "zeros_last",
        "spring-projects/spring-ai#1307",
        [
            {"prompt_tokens": 3, "completion_tokens": 5},
            {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        ],
        Usage(3, 5),
    ),
    (
        "zeros_first",
        "own",
        [
            {"prompt_tokens": 0, "completion_tokens": 0},
            {"prompt_tokens": 3, "completion_tokens": 5},
        ],
        Usage(3, 5),
    ),
    ("total_only", "own", [{"total_tokens": 8}], None),
    ("prompt_and_total", "own", [{"prompt_tokens": 3, "total_tokens": 8}], Usage(3, 5)),
    (
        "zero_prompt_and_total",
        "own",
        [{"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 8}],
        Usage(3, 5),
    ),
    (
        "total_below_its_parts",
        "own",
        [{"prompt_tokens": 300, "completion_tokens": 50, "total_tokens": 10}],
        Usage(300, 50),
    ),
    (
        "a_total_of_completions",
        "own",
        [{"input_tokens": 3, "output_tokens": 5, "total_tokens": 5}],
        Usage(3, 5),
    ),
    ("floats", "own", [{"prompt_tokens": 3.0, "completion_tokens": 5.0}], Usage(3, 5)),
    ("half_tokens", "own", [{"prompt_tokens": 3.5, "completion_tokens": 5}], None),
    ("digits", "own", [{"prompt_tokens": "3", "completion_tokens": "5"}], Usage(3, 5)),
    ("other_digits", "own", [{"prompt_tokens": "\u00b3", "completion_tokens": "5"}], None),
    ("many_digits", "own", [{"prompt_tokens": "9" * 5000, "completion_tokens": 5}], None),
    ("words", "own", [{"prompt_tokens": "many", "completion_tokens": 5}], None),
    ("text", "own", ["3 tokens"], None),
    (
        "input_output",
        "earendil-works/pi#2326",
        [{"input_tokens": 3, "output_tokens": 5}],
        Usage(3, 5),
    ),
    (
        "input_then_output",
        "own",
        [{"input_tokens": 3, "output_tokens": 1}, {"output_tokens": 5}],
        Usage(3, 5),
    ),
    ("camel_case", "own", [{"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}], Usage(3, 5)),
    (
        "gemini",
        "own",
        [
            {
                "promptTokenCount": 3,
                "candidatesTokenCount": 5,
                "totalTokenCount": 10,
                "thoughtsTokenCount": 2,
            }
        ],
        Usage(3, 5, total_tokens=10, reasoning_tokens=2),
    ),
    (
        "details",
        "BerriAI/litellm#39088",
        [
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 64},
                "completion_tokens_details": {"reasoning_tokens": 12},
                "cost": 0.0125,
            }
        ],
        Usage(100, 20, 150, 64, 12, 0.0125),
    ),
    (
        "cached_of_kimi",
        "2389-research/tracker#545",
        [{"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4}],
        Usage(9, 2, cached_tokens=4),
    ),
    (
        "cached_of_deepseek",
        "own",
        [{"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 0}],
        Usage(9, 2, cached_tokens=0),
    ),
    (
        "null_details",
        "RakuenSoftware/aimee#2569",
        [{"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}],
        Usage(9, 2),
    ),
    (
        "cost_of_nothing",
        "own",
        [{"prompt_tokens": 9, "completion_tokens": 2, "cost": -1}],
        Usage(9, 2),
    ),
]
