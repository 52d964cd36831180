"""Two ends with certificates of one CA, and datagrams carried between them by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.tls_files import TlsFiles, Verify
from tumpline.testing.certificates import Authority

MakeContexts = Callable[..., DtlsContexts]


@pytest.fixture
def contexts(tmp_path: Path) -> MakeContexts:
    """`contexts(NAME, **of TlsFiles)`: those of dtn://NAME/, whom the CA vouches for."""
    authority = Authority(tmp_path)

    def make(name: str, **changes: Any) -> DtlsContexts:
        tls = authority.issue(name, [f"dtn://{name}/"])
        return DtlsContexts(TlsFiles(tls["cert"], tls["key"], tls["ca"], verify=Verify.ALL)._replace(**changes))

    return make
