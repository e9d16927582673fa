"""Import the customers of one source, each under its parent company.

Each customer's parent is looked up by VAT ID, then by name, and created if it does not exist. The
slow query in between keeps the two from being one transaction. Importers that run side by side all
look before any has created a parent, so a company ends up with several.
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
    """Return a company's name without case, accents and legal form."""
    text = unicodedata.normalize("NFKD", company.casefold().replace("&", " and "))
    text = "".join(c for c in text if not unicodedata.combining(c)).replace(".", "")
    words = re.findall(r"[a-z0-9]+", text.replace("sp z oo", "spzoo"))
    return " ".join(word for word in words if word not in LEGAL_FORMS)


def keys(company: str, vat_id: str | None) -> list[str]:
    """Return the keys that identify a parent, most reliable first."""
    vat = re.sub(r"\W", "", vat_id or "").upper()
    return [*([vat] if vat else []), name_key(company)]


def look(database: sqlite3.Connection) -> dict[str, int]:
    """Return the existing parents by all of their keys."""
    parents = database.execute("SELECT id, name, vat_id FROM parents")
    return {key: number for number, name, vat_id in parents for key in keys(name, vat_id)}


def make(
    database: sqlite3.Connection, rows: list[dict[str, str]], known: dict[str, int]
) -> tuple[int, int]:
    """Insert customers and missing parents; return how many of each."""
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
    """Print the companies that have more than one parent; return the exit status."""
    (parents,) = database.execute("SELECT count(*) FROM parents").fetchone()
    twice = database.execute(
        "SELECT min(name), count(*) FROM parents GROUP BY name_key HAVING count(*) > 1 ORDER BY 1"
    ).fetchall()
    for name, count in twice:
        print(f"{name}: {count} parents instead of one")
    print(f"{parents} parents, {len(twice)} companies with more than one")
    return 1 if twice else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Import the customers of SOURCE; without SOURCE, check for duplicates."
    )
    parser.add_argument("database", metavar="DATABASE")
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="crm, shop, billing or support")
    parser.add_argument(
        "--slow", type=float, default=0.3, metavar="SECONDS",
        help="how long the trade register takes to answer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--step", action="store_true", help="wait for Enter between looking up and creating parents"
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
        time.sleep(options.slow)  # stands for a query to the trade register
    customers, parents = make(database, rows, known)
    print(f"{options.source}: {customers} customers, {parents} new parents")
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
