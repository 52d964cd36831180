"""The tree is the architecture: no import may run against its arrows (ARCHITECTURE.md §3)."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "tumpline"
# wire <- machines <- drivers <- node <- lab, bench, ui; testing may look at all but ui, and nothing but ui's tests at it.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "wire": {"errors"},
    "machines": {"wire", "errors"},
    "drivers": {"machines", "wire", "errors"},
    "node": {"drivers", "machines", "wire", "errors"},
    "lab": {"node", "drivers", "machines", "wire", "errors"},
    "bench": {"node", "drivers", "machines", "wire", "errors"},
    "ui": {"bench", "lab", "node", "drivers", "machines", "wire", "errors"},
    "testing": {"bench", "lab", "node", "drivers", "machines", "wire", "errors"},
}
# One part of a room that is closed otherwise. A laboratory is simulated by the very World that the tests trust; a bench of
# tunnels needs namespaces and a broker to measure between.
MAY_IMPORT_PART: dict[str, tuple[str, ...]] = {
    "lab": ("testing.world",),
    "bench": ("lab.holder", "testing.rabbitmq"),
}
# Time, chance and I/O are arguments in these rooms (ARCHITECTURE.md §5.1, §5.2).
PURE = {"wire", "machines"}
IMPURE = {"asyncio", "socket", "ssl", "select", "time", "datetime", "random"} | {
    "secrets",
    "uuid",
    "os",
    "threading",
    "subprocess",
    "sqlite3",
}


def wrong_arrows(path: Path, source: str) -> list[str]:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                package = ("tumpline", *path.relative_to(SOURCE).parts[: -node.level])
                names = [".".join((*package, *filter(None, [node.module])))]
            else:
                names = [node.module or ""]
            if names == ["tumpline"]:
                names = [f"tumpline.{alias.name}" for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if top == "tumpline" and target not in ("", room) and room in MAY_IMPORT and target in MAY_IMPORT:
                parts = MAY_IMPORT_PART.get(room, ())
                if target not in MAY_IMPORT[room] and not rest.startswith(parts):
                    found.append(f"{path}:{line}: {room} imports {name}")
            elif room in PURE and (top in IMPURE or "generate_private_key" in name):
                found.append(f"{path}:{line}: {room} imports {name}")
        if room in PURE and isinstance(node, ast.Attribute) and node.attr in ("generate_private_key", "generate"):
            found.append(f"{path}:{node.lineno}: {room} makes a key")
    return found


def test_no_wrong_arrow() -> None:
    wrong = [line for path in sorted(SOURCE.rglob("*.py")) for line in wrong_arrows(path, path.read_text())]
    assert not wrong, "\n".join(wrong)


def test_a_wrong_arrow_is_found() -> None:
    path = SOURCE / "wire" / "planted.py"
    assert wrong_arrows(path, "import time")
    assert wrong_arrows(path, "from tumpline.node import config")
    assert wrong_arrows(path, "from ..machines import bpa")
    assert wrong_arrows(SOURCE / "lab" / "planted.py", "from tumpline.testing import tshark")
    assert not wrong_arrows(SOURCE / "lab" / "planted.py", "from tumpline.testing.world import World")
    assert wrong_arrows(SOURCE / "node" / "planted.py", "from tumpline import testing")
    assert not wrong_arrows(path, "from tumpline.errors import MalformedError")
