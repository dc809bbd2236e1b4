"""Export one entry of `export` in params.yaml.

python -m stages.export m1_q8
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, run
from text2sql.core.params import load_params
from text2sql.core.paths import EXPORT_FOLDERS, TIMINGS
from text2sql.core.timing import Stopwatch


def main(arguments: Sequence[str]) -> None:
    """Write `data/exports/<name>/` and the timing."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a name of `export` in params.yaml")
    name, params = parser.parse_args(arguments).name, load_params()
    parser.check_choice("name", name, params.export)
    stopwatch = Stopwatch()

    from text2sql.experiments.export.source import find_source
    from text2sql.experiments.export.write import export

    entry = params.export[name]
    print(f"export {name}: {export(find_source(entry.model), entry, EXPORT_FOLDERS / name, replace=True)}")
    stopwatch.write(TIMINGS / f"export_{name}.json", "export", name, 0)


if __name__ == "__main__":
    run(main)
