"""What happens around a model's forward passes, by PyTorch's own hooks: memory that runs out, a signal that comes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def _nothing(*arguments: Any) -> None:
    pass


@contextlib.contextmanager
def around_passes(
    before: Callable[[Any], None] = _nothing, after: Callable[[Any, Mapping[str, Any], Any], None] = _nothing
) -> Iterator[None]:
    """While the block runs, call these around each forward pass of any model with an adapter.

    `before(model)`, then `after(model, inputs, output)` with the pass's keyword arguments. What they raise comes from
    the pass, as an error of PyTorch's would.
    """
    from peft import PeftModel
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    def on_start(module: Any, inputs: Any) -> None:
        if isinstance(module, PeftModel):
            before(module)

    def on_end(module: Any, arguments: Any, inputs: Mapping[str, Any], output: Any) -> None:
        if isinstance(module, PeftModel):
            after(module, inputs, output)

    hooks = [register_module_forward_pre_hook(on_start), register_module_forward_hook(on_end, with_kwargs=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
