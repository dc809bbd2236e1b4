"""An Ollama `Modelfile` beside a GGUF file: the evaluated prompt in Ollama's own template language."""

from text2sql.core.errors import UserError
from text2sql.model.chat_tokens import ChatTokens
from text2sql.prompts.prompt_file import PromptFile

MODELFILE = "Modelfile"
_SYSTEM, _USER = "SYSTEM TEXT", "USER TEXT"


def modelfile(prompt: PromptFile, tokens: ChatTokens, gguf: str, context: int) -> str:
    """Return the Modelfile of the GGUF file `gguf`: greedy, with the evaluated prompt, end token and answer's length.

    Raises UserError for a chat template that Ollama's cannot follow: one that changes what stands in a message.
    """
    messages = [{"role": "user", "content": _USER}]
    if prompt.system is not None:
        messages = [{"role": "system", "content": _SYSTEM}, *messages]
    text = tokens.chat_text(messages)
    if _USER not in text or (prompt.system is not None and _SYSTEM not in text):
        raise UserError("--to gguf: the chat template changes its messages' text, which a Modelfile cannot")
    bos = tokens.tokenizer.bos_token
    if bos and text.startswith(bos) and tokens.tokenizer("Answer:")["input_ids"][:1] == [tokens.tokenizer.bos_token_id]:
        text = text[len(bos) :]  # Ollama puts it there by the file's `add_bos_token`
    template = text.replace(_SYSTEM, "{{ .System }}").replace(_USER, "{{ .Prompt }}")
    lines = [f"FROM ./{gguf}", f'TEMPLATE """{template}{{{{ .Response }}}}{prompt.end}"""']
    if prompt.system is not None:
        lines.append(f'SYSTEM """{prompt.system}"""')
    lines += [
        f'PARAMETER stop "{prompt.end}"',
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_predict {prompt.max_new_tokens}",
        f"PARAMETER num_ctx {context}",
    ]
    return "\n".join(lines) + "\n"
