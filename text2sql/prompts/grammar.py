"""A schema in, the grammar of the answers that constrained decoding allows out, in llguidance's form of Lark.

The language: one SELECT (with subqueries, joins, set operators) over the schema's tables and columns, bare or in a
Markdown fence, and nothing after it. Names are the schema's, in any case and any of SQLite's quotings; aliases are
free. A double-quoted text that names no column stays allowed, since SQLite reads it as a literal. What a grammar cannot
say, which table a column belongs to, is said by `text2sql.prompts.scope`.

A terminal takes the white space around it: mandatory between words, free beside punctuation, none at the end of an
answer, where a model could go on with it to its limit.
"""

import functools
from collections.abc import Iterable

from text2sql.core.errors import UserError
from text2sql.data.schema import Schema
from text2sql.prompts.names import is_plain_name

# SQLite's own functions that a query may call (3.40, no extension): others would fail, whatever the schema.
SCALARS = tuple(
    "abs char coalesce date datetime format glob hex ifnull iif instr julianday length like lower ltrim nullif printf "
    "quote random replace round rtrim sign soundex strftime substr substring time trim typeof unicode unixepoch upper "
    "ceil ceiling floor ln log log10 log2 mod pi pow power sqrt trunc json_extract".split()
)
# Those of several rows: aggregates, with max and min, whose scalar form is rare, and those of a window.
AGGREGATES = tuple(
    "avg count group_concat max min sum total row_number rank dense_rank percent_rank cume_dist ntile lag lead "
    "first_value last_value nth_value".split()
)
# Words that cannot be an alias without quotes: SQLite refuses some, and would read others as the next clause.
NO_ALIAS = tuple(
    "add all alter and as asc between by case cast check collate commit constraint create cross default delete desc "
    "distinct drop else end escape except exists foreign from full glob group having if in index inner insert "
    "intersect into is isnull join left like limit match natural not notnull null offset on or order outer over "
    "primary references regexp right select set table then to transaction union unique update using values when where "
    "window with".split()
)
# One line's end at most: an empty line ends the query that `extract_sql` reads.
_LINE_END = r"\r?\n[ \t]*"
_SPACE, _SPACES = rf"[ \t]*(?:{_LINE_END})?", rf"(?:[ \t]+(?:{_LINE_END})?|{_LINE_END})"
_SPACE_1 = r"[ \t\r\n]{0,2}"  # where a model could go on with it to its limit
_NAME = r"[\p{L}_][\p{L}\p{N}_$]*"
_QUOTED = r"\"[^\"]+\"|`[^`]+`|\[[^\[\]]+\]"


_RULES = r"""
start: BEFORE? query SEMICOLON? | FENCE query SEMICOLON? FENCE_END
query: select (SET select)* (ORDER term (COMMA term)*)? (LIMIT limit)?
term: late (DIRECTION)?
limit: MINUS? INTEGER ((OFFSET | COMMA) INTEGER)?
select: SELECT (DISTINCT? item | grouped (AS alias)?) (COMMA item)* from?
from: FROM source join* (WHERE tested)? (GROUP tested (COMMA tested)* (HAVING late)?)?
grouped: DISTINCT_OPEN (query | early) CLOSE (ARITHMETIC early_sum)? early_relation?
item: STAR | OF_TABLE_STAR | early (AS alias)?
alias: ALIAS | QUOTED | STRING
source: (TABLE | OPEN query CLOSE) (AS alias | BARE_ALIAS)?
join: COMMA source | JOIN source (ON joined | USING columns CLOSE)?
columns: column (COMMA column)*
column: COLUMN | DOUBLE
over: OVER (PARTITION early (COMMA early)*)? (ORDER_FIRST term (COMMA term)*)? CLOSE
       | OVER PARTITION early (COMMA early)* ORDER term (COMMA term)* CLOSE
"""
# Where an expression stands says what it may hold: aliases of the select list only after the list, and aggregates
# neither in WHERE, GROUP BY nor ON.
_EXPRESSION = r"""
{e}: {e}_test (LOGIC {e}_test)*
{e}_test: NOT* {e}_sum {e}_relation?
{e}_relation: COMPARE {e}_sum | LIKE {e}_sum (ESCAPE STRING)? | NULL_TEST | IS NOT? {e}_sum
       | BETWEEN {e}_sum AND {e}_sum | IN (query | {e} (COMMA {e})*) CLOSE
{e}_sum: SIGN? {e}_part (ARITHMETIC {e}_part)*
{e}_part: {name} | OF_TABLE | STRING | DOUBLE | NUMBER | CONSTANT | {e}_call | OPEN (query | {e}) CLOSE
       | EXISTS query CLOSE | CAST {e} AS_TYPE CLOSE
       | CASE (WHEN_FIRST | {e} WHEN) {e} THEN {e} (WHEN {e} THEN {e})* (ELSE {e})? END
{e}_call: {function} CALL (ARGUMENT_STAR | DISTINCT? {e} (COMMA {e})* | DISTINCT_OPEN {e} CLOSE)? CLOSE over?
"""
_RULES += "".join(
    _EXPRESSION.format(e=place, name=name, function=function)
    for place, name, function in (
        ("early", "COLUMN", "FUNCTION"),
        ("late", "COLUMN | ALIAS", "FUNCTION"),
        ("joined", "COLUMN", "SCALAR"),
        ("tested", "COLUMN | ALIAS", "SCALAR"),
    )
)


def sql_grammar(schema: Schema) -> str:
    """Return the grammar of the answers about `schema`; its start symbol is `start`.

    Raises UserError for a schema without tables: there is nothing to select from.
    """
    if not schema.tables:
        raise UserError(f"generation.grammar: the database {schema.db_id} has no tables to ask about")
    tables = [table.name for table in schema.tables]
    columns = [column.name for table in schema.tables for column in table.columns]
    named = {
        "TABLE": _names(tables, "\"`['"),
        # A double-quoted name is read as a literal where it stands alone: DOUBLE has it.
        "COLUMN": _names(columns, "`["),
        "OF_TABLE": rf"(?:{_NAME}|{_QUOTED})\.(?:{_names(columns, chr(34) + '`[')})",
    }
    lexemes = {**_LEXEMES, **{name: f"/{regex}/" for name, regex in named.items()}}
    return _RULES + "".join(f"{name}: {regex}\n" for name, regex in lexemes.items())


@functools.cache
def _any_case(text: str) -> str:
    """Return a regular expression for `text` in any case of its ASCII letters, the only ones that SQLite folds."""
    parts = []
    for char in text:
        if char.isascii() and char.isalpha():
            parts.append(f"[{char.lower()}{char.upper()}]")
        else:
            parts.append(_literal(char))
    return "".join(parts)


def _literal(char: str) -> str:
    if char.isalnum() or char in "_ ":
        return char
    # By its number: no character then means anything to the regular expression, or ends it.
    return rf"\u{{{ord(char):x}}}"


def _words(words: Iterable[str]) -> str:
    return "|".join(map(_any_case, sorted(words, key=lambda word: (-len(word), word))))


def _names(names: Iterable[str], also: str) -> str:
    """Return a regular expression for each of `names`, plain where SQLite reads it so, and in the quotes `also`."""
    names = sorted(set(names))
    found = [_any_case(name) for name in names if is_plain_name(name)]
    closing = {'"': '"', "`": "`", "[": "]", "'": "'"}
    for opening in also:
        end = closing[opening]
        # Doubled inside its own quotes; SQLite has no way to write a closing bracket inside brackets.
        inside = [_any_case(name.replace(end, end * 2)) for name in names if not (opening == "[" and "]" in name)]
        if inside:
            found.append(f"{_literal(opening)}(?:{'|'.join(inside)}){_literal(end)}")
    return "|".join(found)


def _keyword(words: str, before: bool = True, after: str = " ") -> str:
    """Return the terminal of one or more words, with the space around them: `after` is what follows, ` ` a word."""
    inner = _SPACES.join(map(_any_case, words.split()))
    ends = {" ": _SPACES, "": "", "(": rf"{_SPACE}\({_SPACE}"}
    return f"/{_SPACES if before else ''}{inner}{ends[after]}/"


def _one_of(words: str, before: bool = True, after: bool = True) -> str:
    alternatives = "|".join(_SPACES.join(map(_any_case, one.split())) for one in words.split(","))
    return f"/{_SPACES if before else ''}(?:{alternatives}){_SPACES if after else ''}/"


def _mark(regex: str) -> str:
    """Return the terminal of an operator. No line ends beside it: `extract_sql` might read the next as prose."""
    return rf"/[ \t]*(?:{regex})[ \t]*/"


_OUTER = [f"{side}{outer} " for side in ("left", "right", "full") for outer in ("", " outer")]
_JOINS = ("", "inner ", "cross ", *_OUTER)
_TYPES = "integer int real float text numeric decimal char varchar date".split()
_NOT_ALIAS = f"(?:{_words(NO_ALIAS)})"
_LEXEMES = {
    "BEFORE": r"/[ \n]{1,2}/",
    "FENCE": rf"/{_SPACE_1}```(?:{_any_case('sqlite')}|{_any_case('sql')})?{_SPACES}/",
    "FENCE_END": f"/{_SPACE_1}```/",
    "SEMICOLON": f"/{_SPACE_1};/",
    "SELECT": _keyword("select", before=False),
    "SET": _one_of("union,union all,intersect,except"),
    "FROM": _keyword("from"),
    "WHERE": _keyword("where"),
    "GROUP": _keyword("group by"),
    "HAVING": _keyword("having"),
    "ORDER": _keyword("order by"),
    "ORDER_FIRST": _keyword("order by", before=False),
    "DIRECTION": _one_of("asc,desc", after=False),
    "LIMIT": _keyword("limit"),
    "OFFSET": _keyword("offset"),
    "AS": _keyword("as"),
    "JOIN": _one_of(",".join(f"{natural}{kind}join" for natural in ("", "natural ") for kind in _JOINS)),
    "ON": _keyword("on"),
    "USING": _keyword("using", after="("),
    "LOGIC": _one_of("and,or"),
    "AND": _keyword("and"),
    "NOT": _keyword("not", before=False),
    "COMPARE": _mark("<=|>=|<>|!=|==|=|<|>"),
    "LIKE": _one_of("like,not like,glob,not glob"),
    "ESCAPE": _keyword("escape"),
    "NULL_TEST": _one_of("isnull,notnull,not null", after=False),
    "IS": _keyword("is"),
    "BETWEEN": _one_of("between,not between"),
    "IN": rf"/{_SPACES}(?:{_any_case('not')}{_SPACES})?{_any_case('in')}{_SPACE}\({_SPACE}/",
    "ARITHMETIC": _mark(r"\+|-|\*|\u{2f}|%|\|\|"),
    "SIGN": rf"/[-+]{_SPACE}/",
    "MINUS": "/-/",
    "EXISTS": _keyword("exists", before=False, after="("),
    "CAST": _keyword("cast", before=False, after="("),
    "AS_TYPE": _one_of(",".join(f"as {name}" for name in _TYPES), after=False),
    "CASE": _keyword("case", before=False),
    "WHEN_FIRST": _keyword("when", before=False),
    "WHEN": _keyword("when"),
    "THEN": _keyword("then"),
    "ELSE": _keyword("else"),
    "END": _keyword("end", after=""),
    "OVER": _keyword("over", after="("),
    "PARTITION": _keyword("partition by", before=False),
    "FUNCTION": f"/{_words(SCALARS + AGGREGATES)}/",
    "SCALAR": f"/{_words(SCALARS)}/",
    "CALL": rf"/{_SPACE}\({_SPACE}/",
    "DISTINCT": _keyword("distinct", before=False),
    "DISTINCT_OPEN": _keyword("distinct", before=False, after="("),
    "OPEN": rf"/\({_SPACE}/",
    "CLOSE": rf"/{_SPACE}\)/",
    "COMMA": f"/{_SPACE},{_SPACE}/",
    "STAR": r"/\*/",
    "ARGUMENT_STAR": r"/\*/",
    "OF_TABLE_STAR": rf"/(?:{_NAME}|{_QUOTED})\.\*/",
    "ALIAS": f"/{_NAME}/ & ~/{_NOT_ALIAS}/",
    "BARE_ALIAS": f"/{_SPACES}{_NAME}/ & ~/{_SPACES}{_NOT_ALIAS}/",
    "QUOTED": f"/{_QUOTED}/",
    "STRING": "/'(?:[^']|'')*'/",
    "DOUBLE": r'/"(?:[^"]|"")*"/',
    "INTEGER": "/[0-9]+/",
    "NUMBER": r"/[0-9]+(?:\.[0-9]*)?|\.[0-9]+/",
    "CONSTANT": f"/{_words('null true false current_date current_time current_timestamp'.split())}/",
}
