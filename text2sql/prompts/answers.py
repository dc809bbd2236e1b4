"""A model's answer in, the SQL in it out: see docs/answers.md, which says the same for readers.

Every pattern here takes time in proportion to the answer's length, whatever the answer.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

AnswerRule = Literal["standard", "paper"]


def extract_sql(raw: str, rule: AnswerRule = "standard") -> str:
    """Return the SQL in a model's answer, without final semicolons. Raises nothing, whatever the text.

    `standard`: the query that the answer gives, without reasoning, prose and wrappers; of several fenced blocks the
    last that begins as a query does. An answer that holds no query stays as it is.

    `paper`: the assistant's turn. Where it holds a fenced block, the first one is taken, closed or not; else all of
    the turn. A conversational answer stays one: no SQL is searched for in it.
    """
    if rule == "paper":
        return _by_paper(raw)
    answer = assistant_text(raw)
    query = _query_in(answer)
    return (_by_paper(answer) if query is None else query).strip()


def assistant_text(raw: str) -> str:
    """Return what the assistant says in an answer: its first turn, without reasoning or a question nobody asked."""
    return _before_next_question(_without_reasoning(_first_turn(_after_header(raw))))


# Control tokens of the chat templates of Llama 3, SmolLM2 and Qwen (ChatML), Llama 2 and Mistral, and Gemma.
_CONTROL = re.compile(r"<\|[a-z0-9_]{1,40}\|>|</?s>|<(?:start|end)_of_turn>")
_BEGINNING = re.compile(r"\s*(?:<\|(?:begin_of_text|start_header_id|im_start)\|>|<s>|<start_of_turn>)")
_ASSISTANT = re.compile(
    r"<\|start_header_id\|>assistant<\|end_header_id\|>|<\|im_start\|>assistant\b|<start_of_turn>model\b"
)
# A language's name after the opening fence is no part of the code. The closing fence may be missing.
_FENCE = re.compile(
    r"```(?:[ \t]*(?:sqlite3?|[a-z]*sql|text|plaintext)\b)?(?P<code>.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE
)


def _by_paper(raw: str) -> str:
    turn = _after_header(raw)
    end = _CONTROL.search(turn)
    turn = turn[: end.start()] if end else turn
    fence = _FENCE.search(turn)
    if fence:
        turn = fence.group("code")
    return turn.strip().rstrip(";\t\n\r ")


def _after_header(raw: str) -> str:
    """Return what the assistant says: what follows its header, where `raw` holds one."""
    header = _ASSISTANT.search(raw) if _BEGINNING.match(raw) else None
    return raw[header.end() :] if header else raw


# What stands between quotes on one line. A quote after a letter is an apostrophe.
_QUOTED = r"""(?<![\w'])'(?:[^'\n]|'')*+' | (?<![\w"])"[^"\n]*+" """
_TURN_END = re.compile(
    rf"""{_QUOTED} | (?P<end>
      <\|(?:im_end|eo[tm]_id|eot|end_of_turn|end_of_turn_token|end_?of_?text|return)\|>
      | </s> | <end_of_turn> | <turn\|> | <eos> | <｜end▁of▁sentence｜>
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_ANY_CONTROL = (
    r"(?:<\|[a-z0-9_]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|<｜[^<>\s｜]{1,40}｜>|<\|turn>|<turn\|>|<eos>|\[/?INST\])"
)
_LEADING_CONTROL = re.compile(rf"(?:\s*+{_ANY_CONTROL})*+", re.IGNORECASE)

# How models set reasoning apart: tags, Mistral's and Kimi's brackets, Cohere's and OpenThinker's tokens, the channels
# of gpt-oss and Gemma, and Granite's sentence.
_NAME = r"(?:(?:seed:)?think(?:ing)?|(?:internal_)?thoughts?|reason(?:ing)?|analysis|reflection|scratchpad)"
_REASONING = re.compile(
    rf"""{_QUOTED}
    | (?P<close> </{_NAME}\s?> | \[/think\] | ◁/think▷ | <\|(?:end_thinking|end_of_thought|/think)\|> | <unused95>
      | <\|channel\|>\s?final[^<\n]{{0,40}}(?:<\|constrain\|>[^<\n]{{0,40}})?<\|message\|> | <channel\|>
      | \bhere\ is\ my\ response: )
    | (?P<open> <{_NAME}(?:\s[^<>\n]{{0,100}})?> | \[think\] | ◁think▷ | <unused94>
      | <\|(?:start_thinking|begin_of_thought|think)\|>
      | <\|channel\|>\s?(?:analysis|commentary)[^<\n]{{0,80}}<\|message\|> | <\|channel>
      | \bhere\ is\ my\ thought\ process: )""",
    re.VERBOSE | re.IGNORECASE,
)


def _first_turn(text: str) -> str:
    end = next((match for match in _TURN_END.finditer(text) if match["end"]), None)
    return text[: end.start()] if end else text


_OPENING = 120  # characters at a prompt's end that hold what opens a reasoning


def reasoning_opened_by(prompt: str) -> str:
    """Return what stands at the end of `prompt` and opens a reasoning, with the space after it; mostly nothing.

    Templates of models that always reason end so (DeepSeek R1's with `<think>` and a line's end): the answer then
    begins amid its reasoning, and may end there.
    """
    tail = prompt[-_OPENING:]
    marks = list(_REASONING.finditer(tail))
    if not marks or not marks[-1]["open"] or tail[marks[-1].end() :].strip():
        return ""
    return tail[marks[-1].start() :]


def _without_reasoning(text: str) -> str:
    """Return what follows the last reasoning, or where nothing does, what the answer says before it.

    What the template opened begins the text: `reasoning_opened_by`. In other systems' answers it may be missing.
    Reasoning that is not closed goes on to the end: such an answer ran out of tokens before it came to its SQL.
    """
    if text.startswith("analysis") and "assistantfinal" in text:
        return text.rpartition("assistantfinal")[2]  # gpt-oss without its control tokens
    said: list[str] = []
    begin, reasoning = 0, False
    for mark in _REASONING.finditer(text):
        if mark["close"]:
            if not reasoning:
                said = []  # the template opened it
            begin, reasoning = mark.end(), False
        elif mark["open"] and not reasoning:
            said.append(text[begin : mark.start()])
            reasoning = True
    if not reasoning:
        said.append(text[begin:])
    return next((part[_end(_LEADING_CONTROL, part) :] for part in reversed(said) if part.strip()), "")


def _end(pattern: re.Pattern[str], text: str, start: int = 0) -> int:
    """Return where the match of `pattern` at `start` ends, `start` itself without a match."""
    found = pattern.match(text, start)
    return start if found is None else found.end()


_NEXT_QUESTION = re.compile(r"\nQuestion:")


def _before_next_question(text: str) -> str:
    """Return the answer up to where it goes on, in the prompt's own layout, with a question that nobody asked."""
    text = text.strip()
    end = _NEXT_QUESTION.search(text)
    return text[: end.start()] if end else text


# A query begins with SELECT, WITH before a name, or VALUES before a row, at the start of a line, after a label, or in
# a wrapper. Plain language selects, too: "Select the …" is none, unless in capitals.
_QUERY_WORD = re.compile(r"\b(?:select|with|values)\b", re.IGNORECASE)
_QUERY = re.compile(
    r"""(?: SELECT(?=\s*+[^\s`.,;:!?)]|\s++`\w)
      | (?i:select) \b (?! \s+(?i:the|an?|all\ (?:the|of)|any|each|every|those|these|this|that|which|your)
                          \s+ (?! (?i:from|as)\b ) \w )  (?=\s*+[^\s`.;:!?)]|\s++`\w)
      | (?i:with) \s+ (?:(?i:recursive)\s+)? (?: \w{1,200} | "[^"]{0,200}" | `[^`]{0,200}` | \[[^]]{0,200}\] )
          \s*+ (?: \( | (?i:as)\s*+(?:\(|(?i:not\s|materialized)) )
      | (?i:values) \s*+ \(
    )""",
    re.VERBOSE,
)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»"}
_MARK = r"""(?: [\s>*_\#] | \( | \d{1,3}[.)] | [-•+]\s | <\w[^<>]{0,40}> | /\*[^*]{0,60}\*/ | sqlite> | \\boxed\{ )"""
_LINE_START = re.compile(rf"(?:.*:)? {_MARK}*+ (?P<quote>[\"'`“‘«]{{0,3}}) \s?", re.VERBOSE)
_IN_QUOTES = re.compile(r"(?:.*[\s(,=])?(?P<quote>[\"'`“‘«]{1,2})")
_IN_SENTENCE = re.compile(r".*\b(?:is|be|run|use|try|query|statement|sql) ", re.IGNORECASE)
_FROM = re.compile(r"[^\n]{1,400}?\bFROM\b", re.IGNORECASE)
_BRACES = re.compile(r"^[ \t]*+[{\[]", re.MULTILINE)
_WINDOW = 120  # characters before a query's first word that say whether a query begins there
_LEAD = re.compile(
    r"""(?: [\s\ufeff\u200b] | --[^\n]*+ | /\*(?s:.*?)(?:\*/|\Z) | sqlite> | \\boxed\{ | \#[^\n]*+ | [*_>]++
      | <\w[^<>]{0,40}>
      | (?:(?:SQL|SQLite|Query|Answer|Final)\ ?){1,3}:[*_]* )*+""",
    re.VERBOSE | re.IGNORECASE,
)
_OTHER_STATEMENT = re.compile(
    r"\s*(?:create|insert|update|delete|drop|alter|replace|pragma|explain|attach|begin)\b(?!\s*:)", re.IGNORECASE
)
_OPEN_STATEMENT = re.compile(r"^[ \t]*(?:create|insert|update|replace|explain)\s[^;:]*\Z", re.IGNORECASE | re.MULTILINE)
_ANSWER_TAG = re.compile(r"<(answer|final|final_answer|response|solution|output|sql|query|sql_query)>", re.IGNORECASE)


def _query_in(text: str) -> str | None:
    """Return the query in an answer without reasoning, or None if it holds no query."""
    tags = list(_ANSWER_TAG.finditer(text))
    if tags:
        tag = tags[-1]
        inner = text[tag.end() :]
        end = inner.lower().find(f"</{tag[1].lower()}>")
        query = _query_outside_tags(inner[:end] if end >= 0 else inner)
        if query is not None:
            return query
    return _query_outside_tags(text)


def _query_outside_tags(text: str) -> str | None:
    inside, outside = _blocks(text)
    for block in reversed(inside):
        query = _query_at_start(block)
        if query is not None:
            return query
    prose = "\n\n".join(outside)
    query = _query_at_start(prose)
    if query is not None or _OTHER_STATEMENT.match(prose):
        return query
    braces = _BRACES.search(prose)
    if braces and (query := _query_at_start(prose[braces.end() - 1 :])):
        return query
    quoted = None
    for word in _QUERY_WORD.finditer(prose):
        if not _QUERY.match(prose, word.start()) or word[0].lower() == "values":
            continue
        before = prose[max(0, word.start() - _WINDOW) : word.start()]
        line = before[before.rfind("\n") + 1 :]
        start = _LINE_START.fullmatch(line)
        if start and not _OPEN_STATEMENT.search(before):
            return _cut(prose, word.start(), start["quote"])
        if not _FROM.match(prose, word.end()):
            continue
        if start := _IN_QUOTES.fullmatch(line):
            quoted = (word.start(), start["quote"])
        elif quoted is None and word[0].isupper() and _IN_SENTENCE.fullmatch(line):
            quoted = (word.start(), "")
    return _cut(prose, *quoted) if quoted else None


_FENCES = re.compile(r"`{3,}|^[ \t>]{0,12}~{3,}", re.MULTILINE)
_INFO = re.compile(r"[ \t]*(?:[a-z0-9+#.{}-]{0,30})[ \t]*", re.IGNORECASE)


def _blocks(text: str) -> tuple[list[str], list[str]]:
    """Return what stands in fenced blocks and what stands outside.

    Fences are Markdown's, of three or more backticks or tildes. Models also set them amid a line, and forget to close
    one before they open the next.
    """
    inside, outside = [], []
    begin, fence = 0, ""
    for match in _FENCES.finditer(text):
        run = match[0].lstrip(" \t>")
        info = text[match.end() : match.end() + 200].partition("\n")[0].strip()
        if fence:
            if run[0] != fence[0] or len(run) < len(fence):
                continue
            inside.append(_code(text[begin : match.start()].rstrip(" \t>")))
            reopened = info and text[text.rfind("\n", begin, match.start()) + 1 : match.start()].strip(" \t>") == ""
            fence = run if reopened and "\n" in text[begin : match.start()] else ""
        else:
            outside.append(text[begin : match.start()])
            fence = run
        begin = match.end()
    if fence:
        inside.append(_code(text[begin:]))
    else:
        outside.append(text[begin:])
    return inside, outside


def _code(block: str) -> str:
    """Return a block without the info string that follows its opening fence."""
    line, newline, rest = block.partition("\n")
    info = _end(_INFO, line)
    for start in (len(line) - len(line.lstrip()), info):
        if _QUERY.match(line, start):
            return block[start:]
    return rest if newline else block


_OPENING_QUOTES = re.compile("[\"'`“‘«]{0,3}")
_BEFORE_QUERY = re.compile(r"[\s(]*+")


def _query_at_start(text: str) -> str | None:
    """Return the query that `text` begins with, maybe in quotes or JSON, or None."""
    stripped = text.strip()
    if stripped[:1] in ("{", "[", '"'):
        texts = list(_texts(_json(stripped)))
        queries = [query for query in map(_query_at_start, texts) if query] if texts != [stripped] else []
        if len(queries) == 1:
            return queries[0]
    start = _end(_LEAD, text)
    quote = text[start : _end(_OPENING_QUOTES, text, start)]
    first = _end(_BEFORE_QUERY, text, start + len(quote))
    if not _QUERY.match(text, first):
        return None
    return _cut(text, start + len(quote), quote)


def _json(text: str) -> Any:
    try:
        return json.JSONDecoder(strict=False).raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (dict, list)):
            waiting.extend(value.values() if isinstance(value, dict) else value)


_OPENS = re.compile(r"[\w%]")  # after a quote: it opens a literal, rather than closing what the query stands in
# Where a query ends, outside of its literals and comments.
_TOKEN = re.compile(
    rf"""(?P<end> ; | {_ANY_CONTROL} | </\w | ```+ | \*\* | [}}] | \[/\w | "{{3}}(?=\s*(?:\n|\Z)) | \\end\b )
    | (?P<literal> '(?:[^']|'')*+(?:'|\Z) | "[^"]*+(?:"|\Z) | `[^`]*+(?:`|\Z) | \[[^\[\]\n]*+\] | [”’»] )
    | (?P<comment> --[^\n]*+ | /\*(?s:.*?)(?:\*/|\Z) )
    | (?P<open> \( ) | (?P<close> \) )
    | (?P<select> \bselect\b )
    | (?P<line> \n\s*+ )""",
    re.VERBOSE | re.IGNORECASE,
)
_WORDS = """
    from where group order having limit offset union intersect except join left right full inner outer cross natural on
    using and or not as in is like glob between case when then else end asc desc select values window collate
""".split()
_GOES_ON = re.compile(rf"(?:{'|'.join([*_WORDS, *map(str.upper, _WORDS)])})\b|[,()=<>|+/%]|--|'")
_KEYWORD = re.compile(rf"(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
_SQL_AFTER_NAME = re.compile(rf"\w+ +(?!is\b|in\b|on\b|and\b|as\b|or\b|not\b|when\b)(?:{'|'.join(_WORDS)})\b")
_LABEL = re.compile(
    r"""[>*_\d.)\ ]{0,8} [A-Za-z][\w/()\ -]{0,40} :(?:[\s*]|\Z)
    | \# | ={3} | -{3,}[ \t]*(?:\n|\Z) | \d{1,3}[.)]\s | [-*•]\ + (?:[*`]|[A-Z][a-z]+\ [a-z])""",
    re.VERBOSE,
)
_PROSE = re.compile(r"(?:[A-Z][a-z']*|I)\b[,]? +[a-z`'\"]")
_INCOMPLETE = re.compile(
    r"(?:[,(=<>|+*/%-]|\b(?:select|distinct|from|where|and|or|not|on|by|having|join|union|all|intersect|except|in|like"
    r"|between|when|then|else|case|as|limit|is|with|values))\s*\Z",
    re.IGNORECASE,
)
_SET_OPERATOR = re.compile(r"(?:union|all|intersect|except)\s*\Z", re.IGNORECASE)


def _cut(text: str, start: int, quote: str) -> str:
    """Return the query that begins at `start`, up to where it ends: its semicolon, the quote around it, or prose."""
    closing = _QUOTES[quote[-1]] if quote else ""
    in_parentheses = text[max(0, start - 4) : start].rstrip(" " + quote).endswith("(")
    depth, selects, position, end = 0, 0, start, len(text)
    while match := _TOKEN.search(text, position):
        kind, position = match.lastgroup, match.end()
        if closing and match[0][0] == closing and not _OPENS.match(text, match.start() + 1):
            end = match.start()
            break
        if kind == "end":
            end = match.start()
            break
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
            if depth < 0 and in_parentheses:
                end = match.start()
                break
        elif kind == "select" and depth == 0:
            selects += 1
        elif kind == "line" and _ends_at_line(text, match, depth, selects):
            end = match.start()
            break
    query = text[start:end].strip().rstrip(";\t\n\r ")
    if query.endswith(".") and not query[-2:-1].isdigit():
        query = query[:-1]
    return query.rstrip(";\t\n\r ")


def _ends_at_line(text: str, line: re.Match, depth: int, selects: int) -> bool:
    """Return whether what follows the line's end `line` is no longer part of the query before it."""
    following = line.end()
    if _LABEL.match(text, following):
        return True
    if depth:
        return False
    before = text[max(0, line.start() - 40) : line.start()]
    if _QUERY.match(text, following) and selects and not _SET_OPERATOR.search(before):
        return True
    if _INCOMPLETE.search(before):
        return False
    if line[0].count("\n") > 1:
        return not _GOES_ON.match(text, following)
    return bool(
        _PROSE.match(text, following)
        and not _KEYWORD.match(text, following)
        and not _SQL_AFTER_NAME.match(text, following)
    )
