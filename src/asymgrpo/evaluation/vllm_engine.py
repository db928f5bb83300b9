"""Sampling with vLLM's offline engine: any model, on GPUs, or on a CPU with vLLM's build for it.

The engine runs in this process and is gone with it (:func:`asymgrpo.evaluation.child.run_in_child`). So requests are
scheduled in the same order every time, which vLLM's default, an engine in a process of its own, does not promise: the
same requests on the same machine give the same responses.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asymgrpo.evaluation.engine import Draw, Problems, Response, Settings
from asymgrpo.tasks.problems import Message
from asymgrpo.training.spec import stream_seed

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
"""Set before vLLM is imported: a policy is a local directory, and nothing is to be fetched or sent."""

IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}

ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
"""GiB, unless the environment says otherwise; vLLM's own default is most of the memory."""

DERIVED = frozenset({"model", "tokenizer", "seed", "max_model_len", "trust_remote_code", "load_format"})
"""Arguments of `LLM` that engine settings may not have."""

PLAIN_TEXT = "countdown"
"""The answer type whose verifier reads every word, special tokens too; others get text without them, as in training."""


def check_options(options: Mapping[str, Any]) -> None:
    """ValueError for engine settings that are decided here."""
    if taken := sorted(DERIVED & set(options)):
        raise ValueError(f"engine settings: {taken[0]}: is decided by the evaluation; expected only how vLLM computes")


def import_vllm() -> None:
    """Before the engine's processes are forked, once for all of them: it takes ten seconds."""
    os.environ.update(OFFLINE)
    try:
        import vllm.entrypoints.llm  # noqa: F401
    except ImportError as error:
        raise ValueError(f"sampler: found vllm, which cannot be imported: {error}") from error


class VllmEngine:
    """One engine for one policy; its context holds the longest prompt of all problems, and a response."""

    def __init__(self, policy: Path, settings: Settings, every: Sequence[Problems]) -> None:
        os.environ.update(IN_PROCESS)
        import torch
        from transformers import AutoTokenizer
        from vllm import LLM
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        if settings.device == "cpu" and not on_cpu:
            raise ValueError("device: found cpu, but this vLLM is built for GPUs; expected auto, or the build for CPUs")
        if on_cpu:
            for name, value in ON_CPU.items():
                os.environ.setdefault(name, value)
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._tokenizer: Any = AutoTokenizer.from_pretrained(policy, trust_remote_code=False, local_files_only=True)
        if not self._tokenizer.chat_template:
            raise ValueError(f"{policy}: the tokenizer has no chat template")
        self._prompts = {problems.name: [self._tokens(prompt) for prompt in problems.prompts] for problems in every}
        context = self._context(policy, every)
        own = {"dtype": "float32", "enforce_eager": True} if on_cpu else {"dtype": "bfloat16"}
        try:
            self._engine = LLM(
                model=str(policy),
                seed=settings.seed,
                max_model_len=context,
                trust_remote_code=False,
                load_format="safetensors",
                **own | dict(settings.options),
            )
        except TypeError as error:
            raise ValueError(f"engine settings: {error}") from None
        except ValueError as error:
            raise ValueError(f"{policy}: vLLM does not start: {error}") from error

    def prompt_tokens(self, problems: Problems) -> list[int]:
        """Length of every prompt in tokens, chat template included."""
        return [len(tokens) for tokens in self._prompts[problems.name]]

    def sample(self, problems: Problems, draws: Sequence[Draw]) -> list[list[list[Response]]]:
        """Responses by draw, problem and sample, from one call: vLLM fills its batches with whatever waits."""
        from vllm import SamplingParams

        prompts: list[Any] = [{"prompt_token_ids": tokens} for tokens in self._prompts[problems.name]]
        # a stream for every problem: with one for all of them, the same random numbers would decide every problem
        parameters = [
            SamplingParams(
                n=draw.samples if draw.temperature > 0 else 1,
                temperature=draw.temperature,
                max_tokens=self._settings.max_tokens,
                seed=stream_seed(draw.stream, problem) >> 1,  # sample i is given seed + i, which must stay below 2^63
                detokenize=False,
            )
            for draw in draws
            for problem in problems.ids
        ]
        # nothing is kept from benchmark to benchmark: responses must not depend on which of them are sampled again
        self._engine.reset_prefix_cache()
        outputs = iter(self._engine.generate(prompts * len(draws), parameters))
        skip_special = PLAIN_TEXT not in problems.answer_types
        return [
            # greedy samples are all the same
            [self._responses(next(outputs), skip_special) * (1 if draw.temperature else draw.samples) for _ in prompts]
            for draw in draws
        ]

    def _tokens(self, prompt: Sequence[Message]) -> list[int]:
        """As verl does it in training."""
        template = dict(self._settings.template)
        rendered: Any = self._tokenizer.apply_chat_template(
            list(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, **template
        )
        return list(rendered["input_ids"])

    def _context(self, policy: Path, every: Sequence[Problems]) -> int:
        longest, problem, benchmark = max(
            (tokens, problem, problems.name)
            for problems in every
            for tokens, problem in zip(self.prompt_tokens(problems), problems.ids, strict=True)
        )
        needed = longest + self._settings.max_tokens
        place = policy / "config.json"
        positions = json.loads(place.read_text()).get("max_position_embeddings", needed)
        if positions < needed:
            raise ValueError(
                f"{place}: max_position_embeddings: found {positions}, expected at least {needed}: the prompt of "
                f"{problem} in {benchmark} has {longest} tokens, and a response may have {self._settings.max_tokens}"
            )
        return needed

    def _responses(self, output: Any, skip_special: bool) -> list[Response]:
        found = []
        for completion in sorted(output.outputs, key=lambda completion: completion.index):
            if completion.finish_reason not in ("stop", "length"):
                raise RuntimeError(f"vLLM gave up a request: finish reason {completion.finish_reason!r}")
            tokens, stopped = list(completion.token_ids), completion.finish_reason == "stop"
            text = self._tokenizer.decode(tokens[:-1] if stopped else tokens, skip_special_tokens=skip_special)
            found.append(Response(text, len(tokens), completion.finish_reason))
        return found
