"""Import the customers of one source, each under its parent company.

Look for the parent: the same VAT id, else the same name. If there is none, make one. Between the
two lies a slow question to the outside, so they can't be one transaction. Importers that run side
by side all look before any of them has made: then a company gets several parents.
"""

import argparse
import csv
import re
import sqlite3
import sys
import time
import unicodedata
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS parents (id INTEGER PRIMARY KEY, name TEXT, name_key TEXT, vat_id TEXT);
CREATE TABLE IF NOT EXISTS customers (
    source TEXT, number TEXT, company TEXT, parent_id INTEGER REFERENCES parents (id)
);
"""
LEGAL_FORMS = {"ab", "ag", "bv", "gmbh", "inc", "kg", "limited", "ltd", "sas", "sl", "spzoo", "srl"}


def name_key(company: str) -> str:
    """Give what is left of a company's name without case, accents and its legal form."""
    text = unicodedata.normalize("NFKD", company.casefold().replace("&", " and "))
    text = "".join(c for c in text if not unicodedata.combining(c)).replace(".", "")
    words = re.findall(r"[a-z0-9]+", text.replace("sp z oo", "spzoo"))
    return " ".join(word for word in words if word not in LEGAL_FORMS)


def keys(company: str, vat_id: str | None) -> list[str]:
    """Give what a parent is known by, the surest first."""
    vat = re.sub(r"\W", "", vat_id or "").upper()
    return [*([vat] if vat else []), name_key(company)]


def look(database: sqlite3.Connection) -> dict[str, int]:
    """Give the parents that there are, by all that they are known by."""
    parents = database.execute("SELECT id, name, vat_id FROM parents")
    return {key: number for number, name, vat_id in parents for key in keys(name, vat_id)}


def make(
    database: sqlite3.Connection, rows: list[dict[str, str]], known: dict[str, int]
) -> tuple[int, int]:
    """Insert customers, and the parents that are not known; give how many of each."""
    made = 0
    with database:
        for row in rows:
            own = keys(row["company"], row["vat_id"])
            parent = next((known[key] for key in own if key in known), None)
            if parent is None:
                parent = database.execute(
                    "INSERT INTO parents (name, name_key, vat_id) VALUES (?, ?, ?)",
                    (row["company"], own[-1], row["vat_id"] or None),
                ).lastrowid
                made += 1
            known.update(dict.fromkeys(own, parent))
            database.execute(
                "INSERT INTO customers VALUES (?, ?, ?, ?)",
                (row["source"], row["number"], row["company"], parent),
            )
    return len(rows), made


def check(database: sqlite3.Connection) -> int:
    """Tell which companies have more than one parent; give the exit status."""
    (parents,) = database.execute("SELECT count(*) FROM parents").fetchone()
    twice = database.execute(
        "SELECT min(name), count(*) FROM parents GROUP BY name_key HAVING count(*) > 1 ORDER BY 1"
    ).fetchall()
    for name, count in twice:
        print(f"{name}: {count} parents where one is right")
    print(f"{parents} parents, {len(twice)} companies with more than one")
    return 1 if twice else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Import customers; without SOURCE, check them.")
    parser.add_argument("database", metavar="DATABASE")
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="crm, shop, billing or support")
    parser.add_argument(
        "--slow", type=float, default=0.3, metavar="SECONDS",
        help="how long the trade register takes to answer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--step", action="store_true", help="instead: say when it has looked, wait for Enter, make"
    )
    options = parser.parse_args()
    database = sqlite3.connect(options.database, timeout=60)
    database.executescript(SCHEMA)
    if options.source is None:
        return check(database)
    with (Path(__file__).parent / "customers.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == options.source]
    known = look(database)
    if options.step:
        print("looked", flush=True)
        sys.stdin.readline()
    else:
        time.sleep(options.slow)  # stands for a question to the trade register, over the network
    customers, parents = make(database, rows, known)
    print(f"{options.source}: {customers} customers, {parents} new parents")
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
