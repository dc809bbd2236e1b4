"""`python -m text2sql` is the command `text2sql`."""

from text2sql.cli.main import command

if __name__ == "__main__":
    command()
