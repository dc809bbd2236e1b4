"""How the passes of a training run, and what changes when they run out of memory.

Speed first: on a GPU passes are recorded as CUDA graphs. When memory runs out, a step is cut into smaller parts; when
not even one example fits, the passes take the next mode:

    RECORDED -> CHECKPOINTED_RECORDED -> CHECKPOINTED        a GPU
    RECORDED -> CHECKPOINTED                                  a model with dropout
    RECORDED -> EAGER                                         a model without gradient checkpointing
    EAGER    -> CHECKPOINTED                                  a CPU, or a model that cannot be recorded
"""

import enum
from collections.abc import Mapping
from typing import Any


class PassMode(enum.Enum):
    """One way to run the passes of a step."""

    RECORDED = "each shape is recorded when it comes again"
    EAGER = "kernels are launched one by one"
    # Gradient checkpointing keeps little of each layer and computes it again in the backward pass.
    CHECKPOINTED_RECORDED = "gradient checkpointing, one row a pass, few shapes, recorded before the first pass"
    CHECKPOINTED = "gradient checkpointing, kernels are launched one by one"

    @property
    def is_recorded(self) -> bool:
        """Whether passes are CUDA graphs."""
        return self in (PassMode.RECORDED, PassMode.CHECKPOINTED_RECORDED)

    @property
    def is_checkpointed(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return self in (PassMode.CHECKPOINTED_RECORDED, PassMode.CHECKPOINTED)


class PassPlan:
    """The mode that passes run in and the size of parts; both change when memory runs out."""

    def __init__(
        self, tokens_per_pass: int, can_record: bool = False, can_checkpoint: bool = True, is_random: bool = False
    ) -> None:
        """Start in the fastest mode.

        `tokens_per_pass`: padded tokens of a part at first. `can_record`: on this device, this model. `can_checkpoint`:
        the model supports gradient checkpointing. `is_random`: it drops something at random, which must be the same
        when a layer is computed again; a recording cannot restore the random state.
        """
        self.mode = PassMode.RECORDED if can_record else PassMode.EAGER
        self._tokens_per_pass = tokens_per_pass
        self._can_checkpoint, self._is_random = can_checkpoint, is_random
        self._has_stepped = False
        self.fallbacks = 0  # how often a step ran out of memory, and began again in another way

    @property
    def tokens_per_pass(self) -> int:
        """How many padded tokens a part has at most, if it has more than one row."""
        return 1 if self.takes_single_rows else self._tokens_per_pass

    @property
    def takes_single_rows(self) -> bool:
        """Whether each part is one row."""
        return self.mode is PassMode.CHECKPOINTED_RECORDED

    @property
    def replays(self) -> bool:
        """Whether the next step uses recordings.

        Not the first: at its end the optimizer allocates its state, for which recordings would leave no memory.
        """
        return self.mode.is_recorded and self._has_stepped

    def stepped(self) -> None:
        """Take note that a step is done."""
        self._has_stepped = True

    def kept(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the plan, see `go_on`."""
        return {"mode": self.mode.name, "tokens_per_pass": self._tokens_per_pass, "fallbacks": self.fallbacks}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on as the run did whose checkpoint `kept` this: another cut of the steps, or mode, rounds otherwise."""
        if not kept.get("fallbacks"):
            return
        can_record = self.mode.is_recorded
        self.mode, self._tokens_per_pass = PassMode[kept["mode"]], kept["tokens_per_pass"]
        self.fallbacks = kept["fallbacks"]
        if not can_record:
            self.stop_recording()

    def stop_recording(self) -> None:
        """Continue with eager passes: the model turned out not to be recordable."""
        if self.mode is PassMode.RECORDED:
            self.mode = PassMode.EAGER
        elif self.mode is PassMode.CHECKPOINTED_RECORDED:
            self.mode = PassMode.CHECKPOINTED

    def out_of_memory(self, rows: int, tokens: int) -> str | None:
        """Change what a step of parts of up to `rows` rows and `tokens` padded tokens failed with.

        Halves the parts, or takes the next mode if they are single rows. Returns how training continues, in words; None
        if nothing is left to try.
        """
        self.fallbacks += 1
        if rows > 1:
            # By what failed, not by what was planned: the parts of this step may already be halves.
            self._tokens_per_pass = min(self._tokens_per_pass, tokens // 2)
            return f"with {-(-rows // 2)}"
        following = self._next_mode()
        if following is None:
            return None
        starts_checkpointing = following.is_checkpointed and not self.mode.is_checkpointed
        self.mode = following
        return "with gradient checkpointing" if starts_checkpointing else "without recording"

    def _next_mode(self) -> PassMode | None:
        if self.mode is PassMode.CHECKPOINTED_RECORDED:
            return PassMode.CHECKPOINTED  # recordings have a memory pool of their own
        if self.mode is PassMode.CHECKPOINTED:
            return None
        if self._can_checkpoint:
            with_recordings = self.mode is PassMode.RECORDED and not self._is_random
            return PassMode.CHECKPOINTED_RECORDED if with_recordings else PassMode.CHECKPOINTED
        return PassMode.EAGER if self.mode is PassMode.RECORDED else None
