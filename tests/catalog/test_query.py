"""Questions that are wrong, that would write, or that look outside: one line, and nothing done."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.query import tables_in
from carspotter.errors import CatalogError


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog.open(tmp_path_factory.mktemp("project")) as opened:
        opened.append("listings", [{"ad_id": "1", "status": "ok"}])
        yield opened


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("SELECT * FROM listing", "no table listing; did you mean 'listings'?"),
        ("SELECT * FROM nowhere_at_all", "no table nowhere_at_all; allowed: listings, "),
        ("SELECT stats FROM listings", '"status"'),
        ("SELECT nosuch(1)", "nosuch does not exist"),
        ("SELECT CAST(status AS INT) FROM listings", "Could not convert string 'ok'"),
        ("SELECT ?", "Values were not provided"),
        ("", "0 statements; ask one question at a time"),
        ("-- nothing", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
    ],
)
def test_a_wrong_question_is_answered_in_one_line(catalog: Catalog, sql: str, message: str) -> None:
    for ask in (catalog.rows, catalog.columns):
        with pytest.raises(CatalogError) as caught:
            ask(sql)
        assert str(caught.value).startswith("SQL: ")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


WRITES = [
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY listings TO '{folder}/out.parquet' (FORMAT parquet)",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.db'",
    "ATTACH '{folder}/out.db' AS x; CREATE TABLE x.y AS SELECT 1",
    "WITH x AS (COPY (SELECT 1) TO '{folder}/out.csv') SELECT 1",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{folder}/out.csv') SELECT 1)",
    "SELECT * FROM query('WITH x AS (COPY (SELECT 1) TO ''{folder}/out.csv'') SELECT 1')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{folder}/out.csv''')",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW listings AS SELECT 1",
    "DROP VIEW listings",
    "INSERT INTO listings SELECT * FROM listings",
    "DELETE FROM listings",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 1",
    "SET enable_external_access = true",
    "PRAGMA disable_optimizer",
    "CALL pragma_version()",
    "CHECKPOINT",
    "PREPARE p AS SELECT 1",
    "BEGIN TRANSACTION",
]


@pytest.mark.parametrize("sql", WRITES)
def test_a_question_cannot_write(catalog: Catalog, sql: str) -> None:
    folder = catalog.project / "catalog"
    before = sorted(folder.rglob("*"))
    with pytest.raises(CatalogError):
        catalog.rows(sql.format(folder=folder))
    with pytest.raises(CatalogError):
        catalog.columns(sql.format(folder=folder))
    assert sorted(folder.rglob("*")) == before
    assert catalog.count("listings") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('{folder}/../carspotter.toml')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    ],
)
def test_a_question_sees_the_catalogue_only(catalog: Catalog, sql: str) -> None:
    (catalog.project / "carspotter.toml").write_text("secret")
    with pytest.raises(CatalogError, match=r"^SQL: [^\n]+$"):
        catalog.rows(sql.format(folder=catalog.project / "catalog"))


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW TABLES",
        "DESCRIBE listings",
        "SUMMARIZE listings",
        "FROM listings",
        "VALUES (1)",
        "WITH copy AS (SELECT 'COPY x TO y' AS c) SELECT c FROM copy",
        "SELECT * FROM listings;",
    ],
)
def test_whatever_only_reads_is_answered(catalog: Catalog, sql: str) -> None:
    assert catalog.rows(sql)


def test_columns_of_one_name_are_all_told(catalog: Catalog) -> None:
    assert catalog.rows("SELECT 1 AS a, 2 AS a, 3 AS b, 4 AS a") == [{"a": 1, "a_1": 2, "b": 3, "a_2": 4}]


def test_settings_are_ours(catalog: Catalog) -> None:
    sql = "SELECT name, value FROM duckdb_settings()"
    settings = {row["name"]: row["value"] for row in catalog.rows(sql)}
    assert settings["autoinstall_known_extensions"] == "false"
    assert settings["autoload_known_extensions"] == "false"
    assert settings["enable_external_access"] == "false"
    assert settings["lock_configuration"] == "true"
    assert settings["TimeZone"] == "UTC"
    assert str(catalog.project) in settings["temp_directory"]


def test_what_does_not_fit_in_memory_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carspotter.catalog.query._MEMORY_BYTES", 64 << 20)
    with Catalog.open(tmp_path) as catalog:
        # 100 MB to sort
        texts = "SELECT repeat(hash(range)::VARCHAR, 5) AS h FROM range(1000000) ORDER BY h"
        assert catalog.rows(f"SELECT count(*) AS n FROM ({texts}) WHERE h <> ''") == [{"n": 1_000_000}]
        assert not list(tmp_path.glob("*.tmp"))
    assert list((tmp_path / "catalog").iterdir()) == []


def test_tables_are_found_by_their_names() -> None:
    sql = 'SELECT (SELECT count(*) FROM Checks) FROM "listings" l JOIN labels USING (ad_id) WHERE l.url <> $$files$$'
    assert tables_in(sql) == ["listings", "files", "checks", "labels"]
