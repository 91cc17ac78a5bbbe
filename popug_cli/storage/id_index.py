"""Find rows by an id through an index on the end of the id, which is a third of the size of an index on the whole id.

The last 8 of the 36 characters of a UUID are random enough that an index on them finds one row or few. An id of fewer
than 29 characters, as a date, has an empty end; so a table must have few rows with such ids.
"""

END_OF_ID = slice(28, None)  # in Python what ``id_end`` is in SQL


def id_end(column: str) -> str:
    """Return the SQL expression for the end of an id, as the indexes have it."""
    return f"substr({column}, 29)"


def equal_ids(indexed: str, other: str) -> str:
    """Return the SQL condition that an id with an index on its end equals another one.

    ``indexed`` is a column and ``other`` a column or a placeholder, which occurs twice in the condition. Appending
    nothing to ``indexed`` keeps SQLite from replacing the column by its value in the first part, for which it would
    not use the index (https://www.sqlite.org/optoverview.html, "Constant Propagation").
    """
    return f"{id_end(indexed)} = {id_end(other)} AND {indexed} || '' = {other}"
