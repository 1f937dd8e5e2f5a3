"""A client of a running lab of tap-reactor: starts one, steers it, and has its report as rows for a table.

Needs Python 3.10 and nothing else; copy the file to where it is used. The methods of `Lab` are the requests of the control socket
(`tap-reactor schema control` describes them), and take what those take.

    from tap_reactor import Lab

    with Lab.start("--vms", "10", "--ping", "ring", "--rate", "1000", "--duration", "10s") as lab:
        lab.set_mark("half")
        lab.impair("vm3:loss=10%")
        report = lab.wait()
    print(report.totals["lost"], pandas.DataFrame(report.rows("flows")))
"""

from __future__ import annotations

import http.client
import json
import pathlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, urlencode

Json = dict[str, Any]
Scalar = str | int | float | bool | None

PAGE = 1000


class LabError(Exception):
    """What the lab, or the program, answered instead: `status` is that of HTTP, or that of the program."""

    def __init__(self, status: int, error: str, expected: str = "") -> None:
        super().__init__(f"{error}; expected {expected}" if expected else error)
        self.status, self.error, self.expected = status, error, expected


class Report:
    """A report; `document` is its JSON (`tap-reactor schema report`)."""

    def __init__(self, document: Json) -> None:
        self.document = document

    @property
    def totals(self) -> dict[str, int]:
        """The numbers of pings by how they ended, such as `sent` and `lost`."""
        return cast("dict[str, int]", self.document["totals"])

    def rows(self, name: str) -> list[dict[str, Scalar]]:
        """One of the lists of the report, such as `flows`, `phases` or `losses`, as flat rows that all have the same keys:
        `rtt_ns.p99`, `totals.sent`. Lists within them are left out. Empty if the report has none of that name."""
        rows = [dict(flat(item)) for item in self.document.get(name) or []]
        keys = dict.fromkeys(key for row in rows for key in row)
        return [{key: row.get(key) for key in keys} for row in rows]


def flat(document: Json, before: str = "") -> Iterator[tuple[str, Scalar]]:
    """The scalars of a document, each with its path."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        elif not isinstance(value, list):
            yield before + key, value


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Lab:
    """A running lab at `address`, as after `--control`: the path of its Unix socket, or `tcp:HOST:PORT` with its `token`."""

    def __init__(self, address: str, token: str | None = None, timeout: float = 60.0) -> None:
        self.address, self.token, self.timeout = address, token, timeout
        self._program: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def start(cls, *arguments: str, program: str = "tap-reactor", timeout: float = 60.0) -> Lab:
        """Starts a run with these arguments, and returns when it answers. `timeout` is that of each request, and of the start."""
        folder = tempfile.TemporaryDirectory(prefix="tap-reactor-")
        path = pathlib.Path(folder.name)
        lab = cls(str(path / "lab.sock"), timeout=timeout)
        command = [program, *arguments, "--control", lab.address, "--output", str(path / "report.json"), "--quiet"]
        try:
            with open(path / "errors", "w", encoding="utf-8") as errors:
                lab._program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)
        except OSError:
            folder.cleanup()
            raise
        lab._folder = folder
        end = time.monotonic() + timeout
        while lab._program.poll() is None and not lab._answers():
            if time.monotonic() > end:
                lab.close()
                raise TimeoutError(f"{program} does not answer; expected it to within {timeout} s")
            time.sleep(0.01)
        if not lab._answers() and not (path / "report.json").exists():
            status, error = lab._program.wait(), (path / "errors").read_text(encoding="utf-8").strip()
            lab.close()
            raise LabError(status, error or f"{program} ended with status {status}")
        return lab

    def _answers(self) -> bool:
        try:
            self.get_lab()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def wait(self, timeout: float | None = None) -> Report:
        """Waits for the end of a run that was started here, and returns its report. `status` has its exit status from then on."""
        if self._program is None or self._folder is None:
            raise ValueError("this lab was not started here; expected one of Lab.start()")
        self._program.wait(timeout)
        folder = pathlib.Path(self._folder.name)
        try:
            return Report(json.loads((folder / "report.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            error = (folder / "errors").read_text(encoding="utf-8").strip()
            raise LabError(self._program.returncode, error or "there is no report") from None

    @property
    def status(self) -> int | None:
        """The exit status of a run that was started here and has ended: 0, or 1 if pings were lost or expectations not met."""
        return self._program.returncode if self._program else None

    def close(self) -> None:
        """Ends a run that was started here, and forgets its report."""
        if self._program is not None and self._program.poll() is None:
            self._program.terminate()
            try:
                self._program.wait(self.timeout)
            except subprocess.TimeoutExpired:
                self._program.kill()
                self._program.wait()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # One request each.

    def get_lab(self) -> Json:
        return self._json("GET", "/")

    def list_vms(self) -> Iterator[Json]:
        return self._items("/vms")

    def get_vm(self, vm: str) -> Json:
        return self._json("GET", f"/vms/{quote(vm, safe='')}")

    def add_vms(self, vms: int) -> Json:
        return self._json("POST", "/vms", {"vms": vms})

    def remove_vms(self, vm: str) -> Json:
        """`vm` is `vm3`, `vm[0-9]`, `all` or a group."""
        return self._json("DELETE", f"/vms/{quote(vm, safe='')}")

    def list_flows(self, sort: str | None = None) -> Iterator[Json]:
        """`sort` may be `worst`."""
        return self._items("/flows", {"sort": sort} if sort else {})

    def add_flows(self, ping: str, **pace: Any) -> Json:
        """`pace` is `size`, and `rate`, `interval` or `window`, with `count`."""
        return self._json("POST", "/flows", {"ping": ping, **pace})

    def remove_flow(self, flow: int) -> Json:
        return self._json("DELETE", f"/flows/{flow}")

    def set_load(self, **pace: Any) -> Json:
        """`pace` is one of `rate`, `interval` and `window`."""
        return self._json("PUT", "/load", pace)

    def get_impairments(self) -> Json:
        return self._json("GET", "/impairments")

    def impair(self, impair: str) -> Json:
        return self._json("POST", "/impairments", {"impair": impair})

    def end_impairments(self) -> Json:
        return self._json("DELETE", "/impairments")

    def list_misbehaviours(self) -> Iterator[Json]:
        return self._items("/misbehaviours")

    def misbehave(self, misbehave: str) -> Json:
        return self._json("POST", "/misbehaviours", {"misbehave": misbehave})

    def behave(self, vm: str) -> Json:
        return self._json("DELETE", f"/misbehaviours/{quote(vm, safe='')}")

    def list_moves(self) -> Iterator[Json]:
        return self._items("/moves")

    def move_vm(self, move: str, repeat: int = 1) -> Json:
        return self._json("POST", "/moves", {"move": move, "repeat": repeat})

    def end_moves(self, vm: str) -> Json:
        return self._json("DELETE", f"/moves/{quote(vm, safe='')}")

    def set_mark(self, name: str) -> Json:
        return self._json("POST", "/marks", {"name": name})

    def list_captures(self) -> Iterator[Json]:
        return self._items("/captures")

    def capture(self, capture: str, **options: Any) -> Json:
        """Begins a capture into the file `capture`; `options` are `vms`, `snap` and `on_loss`."""
        return self._json("POST", "/captures", {"capture": capture, **options})

    def end_capture(self, capture: int) -> Json:
        return self._json("DELETE", f"/captures/{capture}")

    def get_report(self) -> Report:
        """The report so far."""
        return Report(self._json("GET", "/report"))

    def get_report_as(self, ending: str) -> bytes:
        """The same in another format, by the ending of its files: `html`, `csv`, `rtt.hgrm`."""
        return self._bytes("GET", f"/report.{ending}")

    def get_metrics(self) -> str:
        """The metrics so far, as Prometheus reads them."""
        return self._bytes("GET", "/metrics").decode()

    def get_description(self) -> Json:
        return self._json("GET", "/openapi.json")

    def get_events(self) -> Iterator[Json]:
        """The events of the lab from now on, until it ends."""
        connection, response = self._send("GET", "/events")

        def events() -> Iterator[Json]:
            try:
                for line in response:
                    yield json.loads(line)
            finally:
                connection.close()

        return events()

    def stop(self) -> Json:
        """Ends the run in order: pings on their way are waited for."""
        return self._json("POST", "/stop")

    def _items(self, path: str, query: Json | None = None) -> Iterator[Json]:
        offset, total = 0, 1
        while offset < total:
            page = self._json("GET", f"{path}?{urlencode({**(query or {}), 'offset': offset, 'limit': PAGE})}")
            yield from page["items"]
            offset, total = offset + max(1, len(page["items"])), page["total"]

    def _json(self, method: str, target: str, body: Json | None = None) -> Json:
        return cast(Json, json.loads(self._bytes(method, target, body)))

    def _bytes(self, method: str, target: str, body: Json | None = None) -> bytes:
        connection, response = self._send(method, target, body)
        try:
            return response.read()
        finally:
            connection.close()

    def _send(
        self, method: str, target: str, body: Json | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kind, _, port = self.address.partition(":")
        if kind == "tcp":
            connection = http.client.HTTPConnection(port, timeout=self.timeout)
        else:
            connection = _UnixConnection(self.address, self.timeout)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        text = None if body is None else json.dumps({key: value for key, value in body.items() if value is not None})
        try:
            connection.request(method, target, text, headers)
            response = connection.getresponse()
            if response.status < 400:
                return connection, response
            answer = response.read()
        except BaseException:
            connection.close()
            raise
        connection.close()
        try:
            told = json.loads(answer)
        except ValueError:
            told = {}
        raise LabError(response.status, told.get("error", response.reason), told.get("expected", ""))
