"""How hard a question is, by its gold query: easy, medium, hard or extra, as Spider's official evaluator sorts them.

The level follows from three counts (`eval_hardness` in `evaluation.py` of taoyds/test-suite-sql-eval):
- components: WHERE, GROUP BY, ORDER BY, LIMIT, each joined table, each OR, each LIKE;
- nested: subqueries in conditions, and a query behind INTERSECT, UNION or EXCEPT;
- others: more than one aggregate, selected column, condition in WHERE, or column in GROUP BY: one each.
Only the outermost query counts, up to its first set operator: what follows that is a nested query.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from text2sql.core.errors import UserError
from text2sql.data.spider import Example

HARDNESS_LEVELS = ("easy", "medium", "hard", "extra")

_AGGREGATES = ("max", "min", "count", "sum", "avg")
_SET_OPERATORS = ("intersect", "union", "except")
_LIKE = 9  # its number among the operators of a condition in the parsed form


class _Counts(NamedTuple):
    components: int
    nested: int
    others: int


def hardness_of_example(example: Example, place: str) -> str:
    """Return the level of an example: of its official parse, or else of its text.

    Raises UserError that names `place` where the parse is none.
    """
    if example.sql is None:
        return hardness_of_query(example.query)
    try:
        return hardness_of_parsed(example.sql)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def hardness_of_parsed(sql: dict) -> str:
    """Return the level of a query given as Spider's `sql` field, the official parse.

    Raises UserError where it is no such parse.
    """
    try:
        return _level(_counts_of_parsed(sql))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"'sql' is not a query parsed in Spider's form: {type(error).__name__}: {error}") from None


def hardness_of_query(sql: str) -> str:
    """Return the level of a query given as text.

    Equal to the level of the official parse where there is one, and a reading in the same spirit where the official
    parser gives up (outer joins, lists of values, tables without AS, conditions in parentheses). Raises nothing.
    """
    return _level(_counts_of_tokens(_tokens(sql)))


def _level(counts: _Counts) -> str:
    components, nested, others = counts
    if nested == 0:
        if components <= 1 and others == 0:
            return "easy"
        if (components <= 1 and others <= 2) or (components <= 2 and others <= 1):
            return "medium"
        # Two components and two others are extra: so the official script has it.
        if (components <= 2 and others > 2) or (components == 3 and others <= 2):
            return "hard"
    elif nested == 1 and components <= 1 and others == 0:
        return "hard"
    return "extra"


def _counts_of_parsed(sql: dict) -> _Counts:
    # A list of conditions alternates: condition, "and" or "or", condition. A condition is
    # [has NOT, number of its operator, left side, value, second value of BETWEEN].
    where, having, joined = sql["where"], sql["having"], sql["from"]["conds"]
    conditions = joined[::2] + where[::2] + having[::2]
    connectives = joined[1::2] + where[1::2] + having[1::2]
    components = sum(bool(sql[clause]) for clause in ("where", "groupBy", "orderBy")) + (sql["limit"] is not None)
    components += max(len(sql["from"]["table_units"]) - 1, 0)
    components += connectives.count("or") + sum(condition[1] == _LIKE for condition in conditions)

    nested = sum(isinstance(value, dict) for condition in conditions for value in condition[3:5])
    nested += sum(sql[operator] is not None for operator in _SET_OPERATORS)

    # An aggregate is what begins with a number other than 0. The official script asks this of conditions as well,
    # where the first entry says NOT, and of AND and OR in HAVING: both count as aggregates.
    columns = sql["select"][1]
    counted = columns + where[::2] + sql["groupBy"] + having
    if sql["orderBy"]:
        counted = counted + [column for unit in sql["orderBy"][1] for column in unit[1:3] if column]
    aggregates = sum(unit[0] != 0 for unit in counted)
    others = sum(count > 1 for count in (aggregates, len(columns), len(where), len(sql["groupBy"])))
    return _Counts(components, nested, others)


# Reading text. Tokens are words and marks in lower case, quoted texts as one token each, and what stands in
# parentheses as a list of its own.
_Token = str | list
_Tokens = list[_Token]

_TOKEN = re.compile(
    r"""
      (?P<skipped> \s+ | --[^\n]* | /\*.*?(?:\*/|$) )
    | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^]]*\]
    | [\w.]+ | <= | >= | <> | != | \|\| | .
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[^\W\d][\w.]*")
_CLAUSES = ("select", "from", "where", "group", "having", "order", "limit", *_SET_OPERATORS)
_DEEPEST = 100  # parentheses below that, which no sensible query has, are read as if they were not there


class _Condition(NamedTuple):
    tokens: _Tokens
    after_or: bool


def _counts_of_tokens(tokens: _Tokens) -> _Counts:
    while tokens and isinstance(tokens[0], list):  # a query in parentheses, maybe with a set operator behind it
        tokens = tokens[0] + tokens[1:]
    clauses = _clauses(tokens)
    selected = _split(clauses.get("select", []), (",",))
    tables = _split(clauses.get("from", []), (",", "join"))
    grouped = _split(clauses.get("group", []), (",",))
    ordered = _split(clauses.get("order", []), (",", "+", "-", "*", "/"))
    where = _conditions(clauses.get("where", []))
    having = _conditions(clauses.get("having", []))
    joined = [condition for table in tables if "on" in table for condition in _conditions(_after(table, "on"))]
    conditions = joined + where + having

    components = sum(clause in clauses for clause in ("where", "group", "order", "limit"))
    components += max(len(tables) - 1, 0)
    components += sum(condition.after_or + ("like" in condition.tokens) for condition in conditions)

    nested = _subqueries(clauses["with"]) + sum(_subqueries(condition.tokens) for condition in conditions)
    nested += any(operator in clauses for operator in _SET_OPERATORS)

    aggregates = sum(unit[0] in _AGGREGATES for unit in selected + grouped + ordered)
    # As above: NOT counts as an aggregate, and so does what stands between two conditions of HAVING.
    aggregates += sum(_is_negated(condition.tokens) for condition in where + having) + max(len(having) - 1, 0)
    others = sum(count > 1 for count in (aggregates, len(selected), len(where), len(grouped)))
    return _Counts(components, nested, others)


def _tokens(sql: str) -> _Tokens:
    """Return all tokens of a text, whether its parentheses are balanced or not."""
    open_groups: list[_Tokens] = [[]]
    for match in _TOKEN.finditer(sql):
        token = match[0].lower()
        if token == "(" and len(open_groups) <= _DEEPEST:
            group: _Tokens = []
            open_groups[-1].append(group)
            open_groups.append(group)
        elif token == ")":
            if len(open_groups) > 1:
                open_groups.pop()
        elif match.lastgroup != "skipped" and token != ";":
            open_groups[-1].append(token)
    return open_groups[0]


def _clauses(tokens: _Tokens) -> dict[str, _Tokens]:
    """Return the clauses of the outermost query, up to its first set operator; what precedes it as `with`."""
    clauses: dict[str, _Tokens] = {"with": []}
    clause = "with"
    for token in tokens:
        if token in _CLAUSES:
            clause = token
            clauses[clause] = []
            if clause in _SET_OPERATORS:
                break
        elif not (token == "by" and clause in ("group", "order")) and not (token == "distinct" and clause == "select"):
            clauses[clause].append(token)
    return clauses


def _split(tokens: _Tokens, separators: Sequence[str]) -> list[_Tokens]:
    """Return the parts of `tokens` between separators, without empty ones."""
    parts: list[_Tokens] = [[]]
    for token in tokens:
        if token in separators:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _after(tokens: _Tokens, word: str) -> _Tokens:
    return tokens[tokens.index(word) + 1 :]


def _conditions(tokens: _Tokens) -> list[_Condition]:
    """Return the conditions that AND and OR connect, also those within parentheses."""
    parts = [_Condition([], False)]
    between = unread = False
    for token in tokens:
        # After a comparison of two columns, the official parser overlooks OR and all that follows, up to the next AND.
        unread = token != "and" and (unread or (token == "or" and _compares_columns(parts[-1].tokens)))
        if unread:
            continue
        if token == "or" or (token == "and" and not between):
            parts.append(_Condition([], token == "or"))
        else:
            parts[-1].tokens.append(token)
        if token in ("between", "and"):
            between = token == "between"
    conditions: list[_Condition] = []
    for part in parts:
        inner = part.tokens[-1] if part.tokens and part.tokens[:-1] in ([], ["not"]) else None
        if isinstance(inner, list) and "select" not in inner:
            first, *others = _conditions(inner) or [_Condition([], False)]
            conditions += [first._replace(after_or=part.after_or), *others]
        elif part.tokens:
            conditions.append(part)
    return conditions


def _compares_columns(tokens: _Tokens) -> bool:
    *_, operator, value = ["", "", *tokens]
    return operator in ("=", "!=", "<", ">", "<=", ">=") and isinstance(value, str) and bool(_NAME.fullmatch(value))


def _is_negated(tokens: _Tokens) -> bool:
    return "not" in tokens and "is" not in tokens


def _subqueries(tokens: _Tokens) -> int:
    """Return how many queries in parentheses there are, not counting those within them."""
    groups = [token for token in tokens if isinstance(token, list)]
    return sum(1 if "select" in group else _subqueries(group) for group in groups)
