"""Programs, each made once: taken ready where a right one exists, else built from its Go module into the cache.

An entry of the cache is a folder whose name contains a digest of all that decides what is built: versions, packages,
flags, the text of go.mod and go.sum (and of our own sources), and Go's version. It appears by one rename when it is
complete, so it is complete when it exists. Builds of the same entry wait for each other on a lock that the kernel
drops when its holder dies.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import golang
from devcluster.components import Component, Program, component, owner_of
from devcluster.errors import DevclusterError
from devcluster.locks import locked
from devcluster.paths import cache_dir
from devcluster.progress import Progress

_SIDE_BY_SIDE = 2
"""Components that are built at the same time. Go itself uses all processors for each, and memory accordingly."""


@dataclass
class Binaries:
    """Finds and makes programs.

    Attributes:
        progress: told about builds.
        cache: root of the cache.
        ready: folder of ready programs that go before all else (`--binaries`, `$BULKHEAD_BINARIES`); None where there
            is none.
        search_path: folders looked through for ready programs of the right version, as in $PATH; "" for none.
        go: the Go command; None for one found by `golang.command`.
    """

    progress: Progress
    cache: Path = field(default_factory=cache_dir)
    ready: Path | None = field(default_factory=lambda: _folder_from_environment("BULKHEAD_BINARIES"))
    search_path: str = field(default_factory=lambda: os.environ.get("PATH", ""))
    go: Path | None = None
    _running: set[subprocess.Popen[str]] = field(default_factory=set, init=False, repr=False, compare=False)

    def program(self, name: str) -> Path:
        """Give one program, making its component where needed."""
        return self.component(owner_of(name))[name]

    def folder(self, name: str) -> Path:
        """Give the folder of a component as built, with its module files. Ready programs do not replace it."""
        return self._built(component(name))

    def all(self, names: Iterable[str]) -> dict[str, Path]:
        """Make several components, two at a time.

        Args:
            names: components.

        Returns:
            Program name to its path, for all their programs.

        Raises:
            DevclusterError: see `component`. What else was being built is ended.
        """
        wanted = [component(name) for name in names]
        self._make([one for one in wanted if self._is_missing(one)])
        return {program: path for one in wanted for program, path in self.component(one).items()}

    def _make(self, missing: Sequence[Component]) -> None:
        """Build components. A program is linked by one processor, and what is fetched is waited for by all of them."""
        waiting, busy, lock = list(missing), list[str](), threading.Lock()

        def make() -> None:
            while one := take():
                self.component(one)
                with lock:
                    busy.remove(one.module)

        def take() -> Component | None:
            """Gives the next, of another go.mod than what is being built: what two share would be compiled twice."""
            with lock:
                chosen = next((one for one in waiting if one.module not in busy), next(iter(waiting), None))
                if chosen is not None:
                    waiting.remove(chosen)
                    busy.append(chosen.module)
                return chosen

        with self._fetching(missing[1:]), ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
            making = [pool.submit(make) for _ in missing[:_SIDE_BY_SIDE]]
            try:
                for made in as_completed(making):
                    made.result()
            except BaseException:
                with lock:
                    waiting.clear()
                for process in tuple(self._running):
                    process.kill()
                raise

    def component(self, wanted: Component) -> dict[str, Path]:
        """Give the programs of a component: ready ones if all are there, else those in the cache, built if need be.

        Raises:
            DevclusterError: the build failed (its last lines are in the text), or a program in `ready` has another
                version.
        """
        if ready := self._ready(wanted):
            return ready
        folder = self._built(wanted)
        return {program.name: folder / program.name for program in wanted.programs}

    def _is_missing(self, wanted: Component) -> bool:
        return not self._entry(wanted).is_dir() and self._ready(wanted) is None

    @contextmanager
    def _fetching(self, components: Sequence[Component]) -> Iterator[None]:
        """Fetches the modules of components while what comes before them is compiled, which needs no network."""
        ended = threading.Event()

        def fetch() -> None:
            for one in components:
                if ended.is_set():
                    return
                packages = [program.package for program in one.programs]
                command = ["list", "-deps", "-f", "", *_tags(one), *packages]
                # Its own build fetches what could not be fetched here, and tells why where it cannot either.
                with suppress(DevclusterError):
                    self._run_go(one, command, module=one.module_dir)

        fetching = threading.Thread(target=fetch, name="fetching modules")
        fetching.start()
        try:
            yield
        finally:
            ended.set()
            fetching.join()

    def _ready(self, wanted: Component) -> dict[str, Path] | None:
        given = self._in_given_folder(wanted)
        if given is not None or wanted.module_files:
            return given
        found = {}
        for program in wanted.programs:
            path = shutil.which(program.name, path=self.search_path) if self.search_path else None
            if path is None or program.version_args is None or reported_version(Path(path), program) != wanted.version:
                return None
            found[program.name] = Path(path)
        return found

    def _in_given_folder(self, wanted: Component) -> dict[str, Path] | None:
        if self.ready is None or not all(_is_executable(self.ready / p.name) for p in wanted.programs):
            return None
        for program in wanted.programs:
            version = reported_version(self.ready / program.name, program) if program.version_args else wanted.version
            if version != wanted.version:
                raise DevclusterError(
                    f"{self.ready / program.name} is refused: it is version {version or 'unknown'}; "
                    f"{wanted.version} is accepted. Replace it, or take it away to have it built"
                )
        return {program.name: self.ready / program.name for program in wanted.programs}

    def _built(self, wanted: Component) -> Path:
        entry = self._entry(wanted)
        if entry.is_dir():
            return entry
        with locked(self.cache / "locks" / f"{entry.name}.lock", self.progress, f"another build of {wanted.name}"):
            if not entry.is_dir():  # the one waited for may have built it
                with self.progress.step(f"building {wanted.name} {wanted.version} from its Go module"):
                    self._build(wanted, entry)
        return entry

    def _entry(self, wanted: Component) -> Path:
        return self.cache / "programs" / f"{wanted.name}-{wanted.version}-{self.key(wanted)}"

    def key(self, wanted: Component) -> str:
        """The digest that names a component's cache entry: equal exactly when the same would be built."""
        files = {
            str(path.relative_to(wanted.module_dir)): path.read_text()
            for path in sorted(wanted.module_dir.rglob("*"))
            if path.is_file()
        }
        decisive = {
            "version": wanted.version,
            "programs": [[program.name, program.package] for program in wanted.programs],
            "flags": _build_flags(wanted),
            "cgo": wanted.cgo,
            "module_files": wanted.module_files,
            "files": files,
            "go": golang.version(self._go(), wanted.module_dir),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def _go(self) -> Path:
        if self.go is None:
            self.go = golang.command(cache=self.cache, progress=self.progress)
        return self.go

    def _build(self, wanted: Component, entry: Path) -> None:
        """Build into a temporary folder and rename it. The entry's lock is held."""
        work = self.cache / "building"
        work.mkdir(parents=True, exist_ok=True)
        # What is there is of a build that was killed: who builds this entry holds its lock, and that is us.
        for abandoned in work.glob(f"{entry.name}.*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", dir=work))
        try:
            module, output = temporary / "module", temporary / "output"
            shutil.copytree(wanted.module_dir, module)
            output.mkdir()
            for program in wanted.programs:
                arguments = ["build", *_build_flags(wanted), "-o", str(output / program.name), program.package]
                self._run_go(wanted, arguments, module=module)
                self._check_version(wanted, program, output / program.name)
            for module_path, folder, name in wanted.module_files:
                # A build fetches what it compiles; of a module without programs nothing is there yet.
                self._run_go(wanted, ["mod", "download", module_path], module=module)
                location = self._run_go(wanted, ["list", "-m", "-f", "{{.Dir}}", module_path], module=module)
                _copy_writable(Path(location.strip()) / folder, output / name)
            entry.parent.mkdir(parents=True, exist_ok=True)
            os.rename(output, entry)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _run_go(self, wanted: Component, arguments: Sequence[str], *, module: Path) -> str:
        # The death signal ends the compiler with us, also when we are killed: nobody would want its result any more.
        command = ["nice", "-n", "10", "setpriv", "--pdeathsig", "KILL", str(self._go()), *arguments]
        # Flags of the developer's would change what is built without changing its key. An empty GOFLAGS would let those
        # of `go env -w` through.
        flags = {"CGO_ENABLED": "1" if wanted.cgo else "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        process = subprocess.Popen(
            command,
            cwd=module,
            env={**os.environ, **flags},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.add(process)
        with process:
            try:
                output, errors = process.communicate()
            except BaseException:
                process.kill()
                raise
            finally:
                self._running.discard(process)
        if process.returncode != 0:
            tail = "\n".join(errors.splitlines()[-20:])
            raise DevclusterError(
                f"go {arguments[0]} for {wanted.name} failed with exit code {process.returncode}:\n{tail}"
            )
        return output

    @staticmethod
    def _check_version(wanted: Component, program: Program, path: Path) -> None:
        if program.version_args is not None and (found := reported_version(path, program)) != wanted.version:
            raise DevclusterError(
                f"{program.name} was built from {wanted.module_dir} as version {found or 'unknown'}, "
                f"not {wanted.version}: components.py and go.mod disagree"
            )


def reported_version(path: Path, program: Program) -> str | None:
    """Ask a program for its version.

    Returns:
        The first thing like 1.2.3 it prints, with a pre-release suffix if there is one and without a leading v and
        build metadata (semver.org); None where it prints none or does not run.
    """
    try:
        finished = subprocess.run(
            [path, *(program.version_args or ())],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"(?<![\w.])v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)", finished.stdout)
    return found[1] if found else None


def _build_flags(wanted: Component) -> list[str]:
    # What debuggers need is left out when programs are linked (`-w`), so it need not be made: an eighth of the time.
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"]
    return [*flags, f"-ldflags={' '.join(('-s', '-w', *wanted.ldflags))}", *_tags(wanted)]


def _tags(wanted: Component) -> list[str]:
    return [f"-tags={','.join(wanted.tags)}"] if wanted.tags else []


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _copy_writable(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):  # the module cache is read-only, and copying keeps that
        path.chmod(path.stat().st_mode | 0o200)


def _folder_from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).absolute() if value else None
