"""The cache of programs: built once, whole or not at all, whoever is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from devcluster import processes
from devcluster.build import Binaries, reported_version
from devcluster.components import COMPONENTS, Component, Program, component, owner_of
from devcluster.errors import DevclusterError
from devcluster.golang import command as find_go
from devcluster.progress import Progress
from tests.devcluster.support import python_environment, wait_for

GREETER = """package main

import "fmt"

var version = "0.0.0"

func main() { fmt.Println("greeter v" + version) }
"""


class Workshop:
    """A tiny Go module and a cache, with a `go` that notes each build and can be told to hang."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.module = folder / "greeter"
        self.module.mkdir(parents=True)
        (self.module / "go.mod").write_text("module example.invalid/greeter\n\ngo 1.21\n")
        (self.module / "main.go").write_text(GREETER)
        self.cache = folder / "cache"
        self.builds = folder / "builds"
        self.hang = folder / "hang"
        self.go = folder / "go"
        real = find_go(cache=self.cache, progress=progress)
        self.go.write_text(
            "#!/bin/sh\n"
            f'if [ "$1" = build ]; then echo $$ >> {self.builds}; [ -e {self.hang} ] && exec sleep 600; fi\n'
            f'exec {real} "$@"\n'
        )
        self.go.chmod(0o755)
        self.component = Component(
            name="greeter",
            version="1.2.3",
            module=str(self.module),  # an absolute path replaces the folder of modules in front of it
            programs=(Program("greeter", "."),),
            ldflags=("-X main.version=1.2.3",),
        )
        self.binaries = Binaries(progress=progress, cache=self.cache, ready=None, search_path="", go=self.go)

    def builders(self) -> list[int]:
        """Pids of the builds so far."""
        return [int(line) for line in self.builds.read_text().split()] if self.builds.exists() else []

    def entries(self) -> list[str]:
        """Names in the cache of finished components."""
        programs = self.cache / "programs"
        return sorted(path.name for path in programs.iterdir()) if programs.exists() else []

    def unfinished(self) -> list[Path]:
        """Working folders of builds, running or abandoned."""
        return list((self.cache / "building").glob("*"))

    def build_elsewhere(self) -> subprocess.Popen[str]:
        """Build the component in another Python process, which prints the program's path."""
        script = (
            "from pathlib import Path\n"
            "from devcluster.build import Binaries\n"
            "from devcluster.components import Component, Program\n"
            "from devcluster.progress import Progress\n"
            f"greeter = {self.component!r}\n"
            f"made = Binaries(progress=Progress(quiet=True), cache=Path({str(self.cache)!r}), ready=None,"
            f" search_path='', go=Path({str(self.go)!r})).component(greeter)\n"
            "print(made['greeter'])\n"
        )
        environment = python_environment()
        return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def workshop(tmp_path: Path, progress: Progress) -> Workshop:
    return Workshop(tmp_path, progress)


def test_a_component_is_built_from_its_module_with_its_flags(workshop: Workshop) -> None:
    program = workshop.binaries.component(workshop.component)["greeter"]

    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "greeter v1.2.3\n"
    assert workshop.unfinished() == []


def test_a_second_request_finds_the_first_ones_result(workshop: Workshop) -> None:
    first = workshop.binaries.component(workshop.component)
    second = replace(workshop.binaries).component(workshop.component)

    assert first == second
    assert len(workshop.builders()) == 1


def test_parallel_requests_build_once_and_get_the_same(workshop: Workshop) -> None:
    others = [workshop.build_elsewhere() for _ in range(4)]
    paths = {other.communicate(timeout=600)[0].strip() for other in others}

    assert [other.returncode for other in others] == [0, 0, 0, 0]
    assert len(paths) == 1
    assert os.access(paths.pop(), os.X_OK)
    assert len(workshop.builders()) == 1


def test_a_killed_build_takes_its_compiler_along_and_leaves_nothing_that_looks_finished(workshop: Workshop) -> None:
    workshop.hang.touch()
    killed = workshop.build_elsewhere()
    wait_for(workshop.builders)
    compiler = workshop.builders()[0]

    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()

    wait_for(lambda: processes.start_time(compiler) is None)
    assert workshop.entries() == []


def test_the_build_after_a_killed_one_succeeds_and_clears_up(workshop: Workshop) -> None:
    workshop.hang.touch()
    killed = workshop.build_elsewhere()
    wait_for(workshop.builders)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert len(workshop.unfinished()) == 1
    workshop.hang.unlink()

    program = workshop.binaries.component(workshop.component)["greeter"]

    assert reported_version(program, workshop.component.programs[0]) == "1.2.3"
    assert workshop.unfinished() == []


def test_one_who_waits_for_a_build_that_is_killed_builds_itself(workshop: Workshop) -> None:
    workshop.hang.touch()
    killed = workshop.build_elsewhere()
    wait_for(workshop.builders)
    waiting = workshop.build_elsewhere()
    workshop.hang.unlink()

    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    path = waiting.communicate(timeout=600)[0].strip()

    assert waiting.returncode == 0
    assert os.access(path, os.X_OK)
    assert len(workshop.builders()) == 2


def test_the_modules_of_what_comes_next_are_fetched_while_a_component_is_built(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = workshop.folder / "fetched"
    patience = f"for i in $(seq 600); do [ -e {fetched} ] && break; sleep 0.1; done"
    shell, *rest = workshop.go.read_text().splitlines(keepends=True)
    script = [
        shell,
        f'if [ "$1" = list ]; then touch {fetched}; fi\n',
        f'if [ "$1" = build ]; then {patience}; [ -e {fetched} ] || exit 7; fi\n',
        *rest,
    ]
    workshop.go.write_text("".join(script))
    components = {"greeter": workshop.component, "next": replace(workshop.component, name="next")}
    monkeypatch.setattr("devcluster.build.component", components.__getitem__)

    workshop.binaries.all(components)

    assert len(workshop.builders()) == 2


def beside(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, *, first: str) -> dict[str, Component]:
    """Two components of two modules, with a `go` that waits for both builds to have begun and then does `first`."""
    shell, *rest = workshop.go.read_text().splitlines(keepends=True)
    begun = f"[ $(wc -l < {workshop.builds}) -ge 2 ]"
    script = [
        shell,
        f'if [ "$1" = build ]; then echo $$ >> {workshop.builds}\n',
        f"for i in $(seq 600); do {begun} && break; sleep 0.1; done; {begun} || exit 7; {first}; fi\n",
        *(line for line in rest if str(workshop.builds) not in line),
    ]
    workshop.go.write_text("".join(script))
    other = workshop.folder / "other"
    shutil.copytree(workshop.module, other)
    components = {
        "greeter": workshop.component,
        "neighbour": replace(workshop.component, name="neighbour", module=str(other)),
    }
    monkeypatch.setattr("devcluster.build.component", components.__getitem__)
    return components


def test_two_modules_are_built_side_by_side(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    components = beside(workshop, monkeypatch, first="true")

    workshop.binaries.all(components)

    assert [name.partition("-")[0] for name in workshop.entries()] == ["greeter", "neighbour"]


def test_where_one_build_fails_the_one_beside_it_is_ended(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    components = beside(workshop, monkeypatch, first='case "$PWD" in */neighbour-*) exec sleep 600;; *) exit 7;; esac')

    with pytest.raises(DevclusterError, match="go build for greeter failed with exit code 7"):
        workshop.binaries.all(components)

    assert len(workshop.builders()) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workshop.builders())
    assert workshop.unfinished() == []


def test_a_failed_build_says_what_the_compiler_said_and_leaves_nothing(workshop: Workshop) -> None:
    (workshop.module / "main.go").write_text("package main\n\nfunc main() { undefinedThing() }\n")

    with pytest.raises(DevclusterError, match=r"(?s)go build for greeter failed.*undefinedThing"):
        workshop.binaries.component(workshop.component)

    assert workshop.entries() == []
    assert workshop.unfinished() == []


def test_a_build_that_reports_another_version_than_the_table_is_refused(workshop: Workshop) -> None:
    wrong = replace(workshop.component, version="1.2.4")

    with pytest.raises(DevclusterError, match=r"as version 1\.2\.3, not 1\.2\.4"):
        workshop.binaries.component(wrong)

    assert workshop.entries() == []


CHANGES: dict[str, Callable[[Component], Component]] = {
    "version": lambda c: replace(c, version="1.2.4"),
    "linker flags": lambda c: replace(c, ldflags=("-X main.version=1.2.4",)),
    "tags": lambda c: replace(c, tags=("seccomp",)),
    "cgo": lambda c: replace(c, cgo=True),
    "package": lambda c: replace(c, programs=(Program("greeter", "./other"),)),
    "module files": lambda c: replace(c, module_files=(("example.invalid/greeter", "bpf", "bpf"),)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_decides_what_is_built_changes_the_key(
    workshop: Workshop, change: Callable[[Component], Component]
) -> None:
    assert workshop.binaries.key(change(workshop.component)) != workshop.binaries.key(workshop.component)


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_the_text_of_each_file_of_the_module_changes_the_key(workshop: Workshop, file: str) -> None:
    before = workshop.binaries.key(workshop.component)
    with (workshop.module / file).open("a") as opened:
        opened.write("\n// more\n")

    assert workshop.binaries.key(workshop.component) != before


def test_the_version_of_go_changes_the_key(workshop: Workshop, tmp_path: Path) -> None:
    other = tmp_path / "other-go"
    other.write_text('#!/bin/sh\necho "go9.9.9 linux amd64 v1"\n')
    other.chmod(0o755)

    assert replace(workshop.binaries, go=other).key(workshop.component) != workshop.binaries.key(workshop.component)


def test_the_place_of_the_module_does_not_change_the_key(
    workshop: Workshop, tmp_path: Path, progress: Progress
) -> None:
    elsewhere = Workshop(tmp_path / "elsewhere", progress)

    assert elsewhere.binaries.key(elsewhere.component) == workshop.binaries.key(workshop.component)


def test_files_of_a_module_are_copied_beside_the_programs_and_are_writable(workshop: Workshop, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    (sources / "bpf" / "lib").mkdir(parents=True)
    (sources / "go.mod").write_text("module example.invalid/sources\n\ngo 1.21\n")
    (sources / "sources.go").write_text("package sources\n")
    (sources / "bpf" / "lib" / "node.h").write_text("int x;\n")
    (sources / "bpf" / "lib" / "node.h").chmod(0o444)
    with (workshop.module / "go.mod").open("a") as go_mod:
        go_mod.write(f"require example.invalid/sources v1.0.0\nreplace example.invalid/sources => {sources}\n")
    wanted = replace(workshop.component, module_files=(("example.invalid/sources", "bpf", "headers"),))

    program = workshop.binaries.component(wanted)["greeter"]

    copied = program.parent / "headers" / "lib" / "node.h"
    assert copied.read_text() == "int x;\n"
    assert copied.stat().st_mode & 0o200


def script(path: Path, output: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


def test_a_ready_program_on_the_path_is_used_if_its_version_is_right(workshop: Workshop, tmp_path: Path) -> None:
    ready = script(tmp_path / "bin" / "greeter", "greeter v1.2.3")
    binaries = replace(workshop.binaries, search_path=str(ready.parent))

    assert binaries.component(workshop.component) == {"greeter": ready}
    assert workshop.builders() == []


@pytest.mark.parametrize("output", ["greeter v1.2.4", "greeter v1.2.3-dispatcher", "greeter 11.2.3", "usage: greeter"])
def test_a_program_on_the_path_of_another_version_is_passed_over(
    workshop: Workshop, tmp_path: Path, output: str
) -> None:
    other = script(tmp_path / "bin" / "greeter", output)
    binaries = replace(workshop.binaries, search_path=str(other.parent))

    assert binaries.component(workshop.component)["greeter"] != other


def test_a_ready_program_in_the_given_folder_goes_before_the_path(workshop: Workshop, tmp_path: Path) -> None:
    on_path = script(tmp_path / "bin" / "greeter", "greeter v1.2.3")
    given = script(tmp_path / "given" / "greeter", "greeter v1.2.3")
    binaries = replace(workshop.binaries, search_path=str(on_path.parent), ready=given.parent)

    assert binaries.component(workshop.component) == {"greeter": given}


def test_a_given_program_of_another_version_is_refused_with_the_one_accepted(
    workshop: Workshop, tmp_path: Path
) -> None:
    given = script(tmp_path / "given" / "greeter", "greeter v1.2.2")
    binaries = replace(workshop.binaries, ready=given.parent)

    with pytest.raises(DevclusterError, match=r"given/greeter is refused: it is version 1\.2\.2; 1\.2\.3 is accepted"):
        binaries.component(workshop.component)


def test_a_given_folder_without_the_program_changes_nothing(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "given" / "greeter").mkdir(parents=True)  # a folder of that name is not the program
    binaries = replace(workshop.binaries, ready=tmp_path / "given")

    assert binaries.component(workshop.component)["greeter"].is_relative_to(workshop.cache)


VERSIONS = {
    "Kubernetes v1.36.3": "1.36.3",
    "Client Version: v1.36.3\nKustomize Version: v5.8.1": "1.36.3",
    "Client Version: v1.32.4-dispatcher": "1.32.4-dispatcher",
    "etcd Version: 3.6.8\nGit SHA: 1d0a1a0": "3.6.8",
    "v4.3.1+gabcdef": "4.3.1",
    "containerd github.com/containerd/containerd/v2 v2.2.7 1c4457e": "2.2.7",
    "kwok version v0.8.0 go1.26.8 (linux/amd64)": "0.8.0",
    "no version at all": None,
}


@pytest.mark.parametrize(("output", "version"), VERSIONS.items(), ids=[text.split("\n")[0] for text in VERSIONS])
def test_a_programs_version_is_read_from_what_it_prints(tmp_path: Path, output: str, version: str | None) -> None:
    assert reported_version(script(tmp_path / "program", output), Program("program", ".")) == version


def test_a_program_that_cannot_run_has_no_version(tmp_path: Path) -> None:
    broken = tmp_path / "program"
    broken.write_text("not a program")
    broken.chmod(0o755)

    assert reported_version(broken, Program("program", ".")) is None


@pytest.mark.parametrize("wanted", COMPONENTS, ids=lambda c: c.name)
def test_every_component_has_a_module_that_is_locked(wanted: Component) -> None:
    go_mod = (wanted.module_dir / "go.mod").read_text()

    assert go_mod.startswith("module bulkhead.dev/devcluster/")
    for package in (program.package for program in wanted.programs if program.package != "."):
        module = next(
            line.split()
            for line in go_mod.splitlines()
            for word in line.split()
            if package.startswith(f"{word}/") or package == word
        )
        assert (wanted.module_dir / "go.sum").read_text().find(" h1:") > 0, f"{wanted.name}: {module} is not locked"


def test_names_of_components_and_programs_are_unique() -> None:
    programs = [program.name for wanted in COMPONENTS for program in wanted.programs]

    assert len({wanted.name for wanted in COMPONENTS}) == len(COMPONENTS)
    assert len(set(programs)) == len(programs)


def test_an_unknown_component_or_program_is_refused_by_name() -> None:
    with pytest.raises(DevclusterError, match=r"no component 'kubernetes'; there are: etcd, kube-apiserver"):
        component("kubernetes")
    with pytest.raises(DevclusterError, match="no component contains a program 'k3s'"):
        owner_of("k3s")
