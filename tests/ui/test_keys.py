"""The identities of a configuration, also of one that cannot be loaded because of them."""

from pathlib import Path
from typing import Any

CONFIG = """
[node]
id = "dtn://ground/"
[[links]]
kind = "tcpcl4"
tls = { mode = "required", ca = "certs/ca.pem", cert = "certs/ground.pem", key = "certs/KEY.key" }
"""


def _configured(tmp_path: Path, tumpline: Any, key: str) -> Path:
    made = tumpline("cert", "quick", "ground", "rover", "--directory", str(tmp_path / "certs"))
    assert made.code == 0
    file = tmp_path / "ground.toml"
    file.write_text(CONFIG.replace("KEY", key))
    return file


def test_what_is_used_is_listed(tmp_path: Path, tumpline: Any) -> None:
    said = tumpline("keys", "ls", str(_configured(tmp_path, tumpline, "ground")), "--json")
    assert said.code == 0
    (identity,) = said.value["identities"]
    assert identity["purpose"] == "transport"
    assert identity["node_ids"] == ["dtn://ground/"]
    assert identity["days_left"] > 30
    assert identity["problems"] == []


def test_a_key_that_does_not_fit_is_told(tmp_path: Path, tumpline: Any) -> None:
    said = tumpline("keys", "ls", str(_configured(tmp_path, tumpline, "rover")))
    assert said.code == 1
    assert "is not the key of the certificate" in said.out


def test_no_secret_is_shown(tmp_path: Path, tumpline: Any) -> None:
    file = _configured(tmp_path, tumpline, "ground")
    secret = (tmp_path / "certs" / "ground.key").read_text().splitlines()[1]
    said = tumpline("keys", "ls", str(file), "--json")
    assert secret not in said.out


def test_a_file_that_is_no_toml(tmp_path: Path, tumpline: Any) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("[node\n")
    said = tumpline("keys", "ls", str(file))
    assert said.code == 2
    assert "config check" in said.err
