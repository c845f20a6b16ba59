"""Where a PostgreSQL ledger is: the URL, and what of it may be shown."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llm_toll_autopatch.ledger.location import POSTGRES_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Address"]

_ACCEPTED = "postgresql://user:password@host:5432/database"
_ESCAPES = "in a name or password, write @ as %40, : as %3A, / as %2F and % as %25"
_SECRET = ("password", "secret", "sslkey")  # libpq's parameters for credentials have one of these in their names
_EXTRA = "llm-toll-autopatch[postgres]"
_HIDDEN = "…"
_SHORTEST_SECRET = 3  # a shorter one would be found in half of all words


class Address:
    """A server and a database on it, and how to log in. Shows no secret of it.

    Args:
        url: `postgresql://user:password@host:port/database?parameter=value`, as libpq takes it; whatever is missing
            comes from libpq's own environment variables, password file and defaults.
        timeout_s: Seconds that the server may take for a statement, or for letting us in (at least 2, as libpq counts).

    Raises:
        ImportError: There is no psycopg here.
        ValueError: `url` is no such URL.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        parameters = _parsed(url)
        self._secrets = sorted(
            {value for name, value in parameters.items() if any(word in name for word in _SECRET)}
            | ({os.environ["PGPASSWORD"]} if os.environ.get("PGPASSWORD") else set()),
            key=len,
            reverse=True,
        )
        self.location = _location(parameters)
        parameters.setdefault("connect_timeout", str(max(2, round(timeout_s))))
        parameters.setdefault("application_name", "llm_toll_autopatch")
        parameters.setdefault("keepalives_idle", "60")
        if "options" not in parameters:  # a pooler that does not know them wants `?options=`, and gets it
            ours = rf"-c statement_timeout={int(timeout_s * 1000)} -c default_transaction_isolation=read\ committed"
            parameters["options"] = f"{os.environ.get('PGOPTIONS', '')} {ours}".strip()
        self._parameters: Mapping[str, Any] = {**parameters, "client_encoding": "UTF8"}

    def __repr__(self) -> str:
        return self.location

    def parameters(self) -> Mapping[str, Any]:
        """Return the parameters of `psycopg.connect`, secrets among them."""
        return self._parameters

    def redacted(self, text: str) -> str:
        """Return `text` on one line and without the secrets."""
        for secret in self._secrets:
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, _HIDDEN)
        return " ".join(text.split())


def _parsed(url: str) -> dict[str, str]:
    scheme, slashes, rest = url.partition("//")
    if scheme not in POSTGRES_SCHEMES or not slashes:
        raise ValueError(f"a PostgreSQL URL is {_ACCEPTED}")
    server, _, path = rest.partition("/")
    if server.count("@") > 1 or "@" in path.partition("?")[0]:  # libpq would take a part of the password for a host
        raise ValueError(f"an @ too many for {_ACCEPTED}: {_ESCAPES}")
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:  # there is none, or it finds no libpq
        raise ImportError(f"a PostgreSQL ledger needs psycopg: pip install '{_EXTRA}' ({error})") from error

    parameters = None
    with suppress(psycopg.Error):
        parameters = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    if parameters is None:  # libpq's message quotes what it does not understand, which may be a part of the password
        raise ValueError(f"libpq cannot read the URL; it is {_ACCEPTED}, and {_ESCAPES}")
    ports = parameters.get("port", "").split(",")
    if any(port and not port.isdigit() for port in ports):
        raise ValueError(f"the port is not a number in {_ACCEPTED}; {_ESCAPES}")
    return parameters


def _location(parameters: Mapping[str, str]) -> str:
    user = f"{parameters['user']}@" if "user" in parameters else ""
    hosts = parameters.get("host", "").split(",")
    ports = parameters.get("port", "").split(",")
    if len(ports) < len(hosts):
        ports = ports * len(hosts)
    servers = ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))
    return f"postgresql://{user}{servers}/{parameters.get('dbname', '')}"
