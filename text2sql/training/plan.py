"""How the passes of a training run, and what changes when they run out of memory.

Speed first: on a GPU passes are recorded as CUDA graphs. When memory runs out, a step is cut into smaller parts; when
not even one example fits, the passes take the next mode:

    RECORDED -> CHECKPOINTED        a GPU
    RECORDED -> EAGER               a model without gradient checkpointing
    EAGER    -> CHECKPOINTED        a CPU, or a model that cannot be recorded
"""

import enum
from collections.abc import Mapping
from typing import Any


class PassMode(enum.Enum):
    """One way to run the passes of a step."""

    RECORDED = "each shape is recorded when it comes again"
    EAGER = "kernels are launched one by one"
    # Gradient checkpointing keeps little of each layer and computes it again in the backward pass.
    CHECKPOINTED = "gradient checkpointing, kernels are launched one by one"


class PassPlan:
    """The mode that passes run in and the size of parts; both change when memory runs out."""

    def __init__(self, tokens_per_pass: int, can_record: bool = False, can_checkpoint: bool = True) -> None:
        """Start in the fastest mode.

        `tokens_per_pass`: tokens of a part at first. `can_record`: on this device, this model. `can_checkpoint`: the
        model supports gradient checkpointing.
        """
        self.mode = PassMode.RECORDED if can_record else PassMode.EAGER
        self.tokens_per_pass = tokens_per_pass  # the most that a part has, if it has more than one example
        self._at_first = tokens_per_pass
        self._can_checkpoint = can_checkpoint
        self._has_stepped = False
        self.fallbacks = 0  # how often a step ran out of memory, and began again in another way

    @property
    def replays(self) -> bool:
        """Whether the next step uses recordings.

        Not the first: at its end the optimizer allocates its state, for which recordings would leave no memory.
        """
        return self.mode is PassMode.RECORDED and self._has_stepped

    def stepped(self) -> None:
        """Take note that a step is done."""
        self._has_stepped = True

    def kept(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the plan, see `go_on`."""
        return {"mode": self.mode.name, "tokens_per_pass": self.tokens_per_pass, "fallbacks": self.fallbacks}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on as the run did whose checkpoint `kept` this: another cut of the steps, or mode, rounds otherwise."""
        if not kept.get("fallbacks"):
            return
        can_record = self.mode is PassMode.RECORDED
        self.mode, self.tokens_per_pass = PassMode[kept["mode"]], kept["tokens_per_pass"]
        self.fallbacks = kept["fallbacks"]
        if not can_record:
            self.stop_recording()

    def stop_recording(self) -> None:
        """Continue with eager passes: the model turned out not to be recordable."""
        if self.mode is PassMode.RECORDED:
            self.mode = PassMode.EAGER

    def out_of_memory(self, examples: int, tokens: int) -> str | None:
        """Change what a step of parts of up to so many examples and tokens failed with.

        Halves the parts, or takes the next mode if they are single examples. Returns how training continues, in words;
        None if nothing is left to try.
        """
        self.fallbacks += 1
        if examples > 1:
            # By what failed, not by what was planned: parts are seldom full.
            self.tokens_per_pass = min(self.tokens_per_pass, tokens // 2)
            return f"with {self.tokens_per_pass:,} tokens"
        if self.mode is PassMode.CHECKPOINTED:
            return None
        if self._can_checkpoint:
            self.mode = PassMode.CHECKPOINTED
            self.tokens_per_pass = self._at_first  # each takes a tenth of the memory: fewer passes may fit again
            return "with gradient checkpointing"
        if self.mode is PassMode.RECORDED:
            self.mode = PassMode.EAGER
            return "without recording"
        return None
