"""Execution accuracy as the official evaluator defines it.

`exec_eval.py` of taoyds/test-suite-sql-eval (Zhong et al., 2020) with `--etype exec`, and what `evaluation.py` does
to a line of predictions before it: both queries are mended in a few places, DISTINCT is taken out of both unless asked
otherwise, and two results are equal where some order of the columns makes them the same bag of rows (the same list,
where the gold query sorts). Written from that definition; a verdict is meant to be identical for any prediction.
"""

import itertools
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from text2sql.execution.sandbox import MAX_SQL_BYTES

Row = tuple
Rows = Sequence[Row]

# The official evaluator finds DISTINCT, and the end of the first statement, with the tokenizer of the package
# sqlparse, which reads several dialects of SQL at once. These are its tokens as far as they decide where a word or a
# semicolon stands by itself; the first alternative that matches counts. A quote that nothing closes is one character.
_LETTER = "(?i:[A-ZÀ-Ü])"
_TOKEN = re.compile(
    rf"""
      (?P<quoted>
          ` (?: `` | [^`] )* `
        | ´ (?: ´´ | [^´] )* ´
        | ' (?: '' | \\' | [^'] )* '
        | " (?: "" | \\" | [^"] )* "
        | (?<! [\w\])] ) \[ [^][]+ \]
      )
    | (?P<hint> (?: -- | \#[ ] ) \+ .*? (?: \r\n | \r | \n | $ ) )
    | (?P<comment> (?: -- | \#[ ] ) .*? (?: \r\n | \r | \n | $ ) )
    | (?P<newline> \r\n | \r | \n )
    | (?P<space> \s )
    | (?P<other>
          :: | := | \?
        | % (?: \(\w+\) )? (?i:s)
        | (?<!\w) [$:] \w+
        | \\ \w+
        | (?: @ | \#\# | \# ) {_LETTER} \w+
        | -? (?i:0x) [\dA-Fa-f]+
        | -? \d+ (?: \.\d+ )? (?i:e) -? \d+
        | -? (?: \d+ \. \d* | \.\d+ ) (?! _ | {_LETTER} )
        | -? \d+ (?! _ | {_LETTER} )
      )
    | (?P<word>
          (?i: as | asc | case | create | desc | end | from | ilike | in | join | like | rlike | using | values ) \b
        | (?<=\.) {_LETTER} \w*
        | \w [$\#\w]*
      )
    | (?P<mark> [;()] )
    | -> >? | \#>>? | @> | <@ | - | \#- | [<>=~!]+ | [+/@\#%^&|-]+
    | (?s:.)
    """,
    re.VERBOSE,
)
# A comment, or a text between two equal tags such as `$a$`: these begin so, and end where they are closed, if at all.
_OPENING = re.compile(rf"""/\*|(?<![\w"$])\$(?:_\w*|{_LETTER}\w*)?\$""")
_NAME_GOES_ON = re.compile(r"\s*\.(?!\d)|\(")
_END_GOES_ON = re.compile(r"\s+(?:if|loop|while|for|case)\b", re.IGNORECASE)
_CURRENT_YEAR = re.compile(r"YEAR\s*\(\s*CURDATE\s*\(\s*\)\s*\)\s*", re.IGNORECASE)


def gold_as_executed(sql: str, keep_distinct: bool = False) -> str:
    """Return the text that the official evaluator runs for a gold query."""
    return _without_current_year(_mended(sql, keep_distinct))


def prediction_as_executed(sql: str, keep_distinct: bool = False) -> str:
    """Return the text that the official evaluator runs for a prediction.

    Every `value` in a prediction, a placeholder of systems that predict no values, is a 1 there, even inside a name.
    """
    return _without_current_year(_mended(sql.replace("value", "1"), keep_distinct))


def order_matters(gold: str, keep_distinct: bool = False) -> bool:
    """Return whether the rows' order counts: `order by`, spelled with one space, is anywhere in the gold query."""
    return "order by" in _mended(gold, keep_distinct).lower()


def _mended(sql: str, keep_distinct: bool) -> str:
    for apart, together in (("> =", ">="), ("< =", "<="), ("! =", "!=")):
        sql = sql.replace(apart, together)
    return sql if keep_distinct else strip_distinct(sql)


def _without_current_year(sql: str) -> str:
    return _CURRENT_YEAR.sub("2020", sql)


def strip_distinct(sql: str) -> str:
    """Return the first statement of `sql` without the word DISTINCT, wherever it stands outside quotes and comments.

    Raises nothing, whatever the text. One that is too long for the sandbox is returned as it is.
    """
    if len(sql) > MAX_SQL_BYTES or (";" not in sql and "GO" not in sql and "distinct" not in sql.lower()):
        return sql
    return "".join(token for token in _first_statement(sql) if token.lower() != "distinct")


def _first_statement(sql: str) -> Iterator[str]:
    """Yield the tokens up to the first semicolon outside parentheses, and a comment that follows it on its line."""
    level = 0
    ended = False
    for kind, token, match in _tokens(sql):
        if ended and kind not in ("space", "comment"):
            return
        yield token
        if kind == "mark":
            level += {"(": 1, ")": -1}.get(token, 0)
            ended = token == ";" and level <= 0
        elif kind == "word" and _is_keyword(match):
            ended = token == "GO"
            if token.upper() == "END" and not _END_GOES_ON.match(sql, match.end()):
                level -= 1


def _tokens(sql: str) -> Iterator[tuple[str | None, str, re.Match]]:
    """Yield the kind and text of all tokens, and the match that found them."""
    position = 0
    never_closed = set()
    while position < len(sql):
        match = _OPENING.match(sql, position)
        if match:
            closing = "*/" if match[0] == "/*" else match[0]
            at = -1 if closing in never_closed else sql.find(closing, match.end())
            if at >= 0:
                yield "quoted", sql[position : at + len(closing)], match
                position = at + len(closing)
                continue
            never_closed.add(closing)
        match = _TOKEN.match(sql, position)
        assert match is not None  # any character is a token
        yield match.lastgroup, match[0], match
        position = match.end()


def _is_keyword(word: re.Match) -> bool:
    """Return whether a word is no part of a dotted name, and no function."""
    return word.string[word.start() - 1 : word.start()] != "." and not _NAME_GOES_ON.match(word.string, word.end())


def official_equal(gold: Rows, predicted: Rows, order_matters: bool) -> bool:
    """Return whether two results are equal by the official definition.

    Two empty results are equal, whatever their columns. Otherwise there must be as many rows and columns, and one
    order of the columns that makes the rows the same bag, or the same list where `order_matters`. A test that the
    official evaluator runs before that search also counts: see `_same_unordered_rows`.
    """
    if not gold and not predicted:
        return True
    if len(gold) != len(predicted) or len(gold[0]) != len(predicted[0]):
        return False
    if gold == predicted:
        equal = True
    elif order_matters:
        # With rows in place, a column can only stand for one that reads the same from top to bottom.
        equal = Counter(zip(*gold)) == Counter(zip(*predicted))
    else:
        equal = Counter(gold) == Counter(predicted) or (
            len(gold[0]) > 1 and _some_column_order_matches(gold, predicted)
        )
    return equal and _same_unordered_rows(gold, predicted, order_matters)


def _same_unordered_rows(gold: Rows, predicted: Rows, order_matters: bool) -> bool:
    """Compare rows with each row's cells sorted, by their text and type, as the official evaluator does.

    This is meant to reject early what the search would reject late, and in one case rejects more: (1, 10) and
    (1.0, 10) hold equal numbers, but sort as 10, 1 and 1.0, 10. Without such numbers there is nothing to find.
    """
    if float not in set(map(type, itertools.chain.from_iterable(itertools.chain(gold, predicted)))):
        return True
    gold_rows, predicted_rows = map(_sorted_cells, gold), map(_sorted_cells, predicted)
    if order_matters:
        return all(left == right for left, right in zip(gold_rows, predicted_rows, strict=True))
    return set(gold_rows) == set(predicted_rows)


def _sorted_cells(row: Row) -> Row:
    if len(row) == 1:
        return row
    return tuple(sorted(row, key=lambda cell: str(cell) + str(type(cell))))


def _some_column_order_matches(gold: Rows, predicted: Rows) -> bool:
    """Return whether `predicted` is the same bag of rows as `gold` once its columns are put in some order.

    A search, column by column, that never tries what cannot work: rows are told apart by the columns matched so far,
    and a column can only stand for one that has the same values equally often in each of these classes of rows.
    Where classes no longer split, all that is left agrees; one choice among equal columns speaks for all of them.
    """
    gold_rows, predicted_rows = Counter(gold), Counter(predicted)
    states = [
        (
            list(gold_rows.values()),  # a class for each row: at first, how often it comes
            list(predicted_rows.values()),
            list(zip(*gold_rows)),
            list(zip(*predicted_rows)),
        )
    ]
    while states:
        gold_classes, predicted_classes, gold_columns, predicted_columns = states.pop()
        gold_signatures = [_signature(gold_classes, column) for column in gold_columns]
        predicted_signatures = [_signature(predicted_classes, column) for column in predicted_columns]
        alternatives = Counter(predicted_signatures)
        if Counter(gold_signatures) != alternatives:
            continue
        class_count = len(set(gold_classes))
        splitting = [index for index, signature in enumerate(gold_signatures) if len(signature) > class_count]
        if not splitting:
            return True
        chosen = min(splitting, key=lambda index: alternatives[gold_signatures[index]])
        candidates = {
            column: index
            for index, column in enumerate(predicted_columns)
            if predicted_signatures[index] == gold_signatures[chosen]
        }
        for column, index in candidates.items():
            names: dict[tuple[int, Hashable], int] = {}
            states.append(
                (
                    [names.setdefault(pair, len(names)) for pair in zip(gold_classes, gold_columns[chosen])],
                    [names.setdefault(pair, len(names)) for pair in zip(predicted_classes, column)],
                    gold_columns[:chosen] + gold_columns[chosen + 1 :],
                    predicted_columns[:index] + predicted_columns[index + 1 :],
                )
            )
    return False


def _signature(classes: list[int], column: tuple) -> frozenset:
    return frozenset(Counter(zip(classes, column)).items())
