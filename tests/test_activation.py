"""Programs that do not mention us are metered, or not, in real interpreters; nothing can stop one from running."""

from __future__ import annotations

import argparse
import json
import pkgutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import ROOT, Environment, build

from llm_toll_autopatch import _boot, activation
from llm_toll_autopatch.cli import run
from llm_toll_autopatch.sdks import SDKS
from llm_toll_autopatch.simulator import Simulator

OPENAI = """
import openai
with openai.OpenAI() as client:
    client.responses.create(model="gpt-5-mini", input="hi")
"""
ANTHROPIC = """
import anthropic
with anthropic.Anthropic() as client:
    client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
"""
GOOGLE = """
from google import genai
with genai.Client() as client:
    client.models.generate_content(model="gemini-3.8-flash", contents="hi")
"""
PROGRAMS = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the wheel that no test changes."""
    return Environment(tmp_path_factory.mktemp("environment") / "venv", wheel)


@pytest.fixture
def installed(shared: Environment) -> Iterator[Environment]:
    """The same, without a ledger."""
    shared.forget()
    yield shared
    shared.forget()


@pytest.fixture
def own(tmp_path: Path, wheel: Path) -> Environment:
    """An environment with the wheel that the test may change."""
    return Environment(tmp_path / "venv", wheel)


def write(folder: Path, code: str, name: str = "program.py") -> Path:
    """A program."""
    path = folder / name
    path.write_text(code)
    return path


class TestTheSwitch:
    """LLM_TOLL_AUTOPATCH=1 is all that a program needs."""

    @pytest.mark.parametrize("sdk", PROGRAMS)
    def test_a_program_is_metered(self, sdk: str, installed: Environment, sim: Simulator) -> None:
        """A program that knows nothing of us is in the ledger, whichever SDK it uses."""
        result = installed.run("python", "-c", PROGRAMS[sdk], LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.returncode, result.stderr) == (0, "")
        (record,) = installed.records()
        assert (record.provider, record.project, record.outcome) == (sdk, "default", "completed")
        assert record.cost_usd

    @pytest.mark.parametrize("value", [None, "", "0", "2"])
    def test_without_it_nothing_happens(self, value: str | None, installed: Environment, sim: Simulator) -> None:
        """The start file is inert unless the variable says yes, and then no module of ours is imported."""
        variables = {} if value is None else {"LLM_TOLL_AUTOPATCH": value}
        code = OPENAI + "import sys; print([name for name in sys.modules if 'llm_toll_autopatch.' in name])"
        result = installed.run("python", "-c", code, **variables, **sim.environment())
        assert result.stdout == ("[]\n" if not value else "['llm_toll_autopatch._boot']\n")
        assert (result.returncode, result.stderr, installed.records()) == (0, "", [])

    @pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
    def test_until_an_sdk_is_imported_nothing_else_is(self, value: str, installed: Environment) -> None:
        """An activated interpreter has imported two small modules more than another one, and none of the library's."""
        code = "import sys; print(*sorted(sys.modules))"
        bare = installed.run("python", "-c", code)
        active = installed.run("python", "-c", code, LLM_TOLL_AUTOPATCH=value)
        more = set(active.stdout.split()) - set(bare.stdout.split())
        assert more == {"llm_toll_autopatch", "llm_toll_autopatch._boot"}

    def test_running_the_start_file_twice_is_running_it_once(self, installed: Environment, sim: Simulator) -> None:
        """Python runs the `.pth` files of a virtual environment twice, and PEP 829 may do so: one hook, one record."""
        code = (
            "import sys; from llm_toll_autopatch import _boot; _boot.main(); _boot.always()\n"
            "print([type(each).__module__ for each in sys.meta_path].count('llm_toll_autopatch._boot'))\n"
            + OPENAI
            + "_boot.main(); print(_boot.pending())"
        )
        result = installed.run("python", "-c", code, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.stdout, result.stderr) == ("1\nFalse\n", "")
        assert len(installed.records()) == 1

    @pytest.mark.parametrize(("flag", "metered"), [("-I", 1), ("-E", 1), ("-s", 1), ("-P", 1)])
    def test_flags_of_the_interpreter(self, flag: str, metered: int, installed: Environment, sim: Simulator) -> None:
        """The start file works where a `sitecustomize` does not."""
        result = installed.run("python", flag, "-c", OPENAI, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.returncode, len(installed.records())) == (0, metered)

    def test_children_are_metered(self, installed: Environment, sim: Simulator, tmp_path: Path) -> None:
        """A child of a shell, and one of multiprocessing, inherit the activation."""
        program = write(
            tmp_path,
            "import multiprocessing, subprocess, sys\n"
            f"CODE = {OPENAI!r}\n"
            "if __name__ == '__main__':\n"
            "    subprocess.run(['sh', '-c', '\"$0\" -c \"$1\"', sys.executable, CODE], check=True)\n"
            "    child = multiprocessing.get_context('spawn').Process(target=exec, args=(CODE,))\n"
            "    child.start(); child.join(); print(child.exitcode)\n",
        )
        result = installed.run("python", program, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.stdout, result.stderr, len(installed.records())) == ("0\n", "", 2)

    def test_threads_that_import_two_sdks_at_once(self, installed: Environment, sim: Simulator) -> None:
        """Whichever thread is first wakes the metering, and the other's SDK is not missed."""
        code = (
            "import threading\n"
            f"codes = {[OPENAI, ANTHROPIC]!r}\n"
            "barrier = threading.Barrier(2)\n"
            "def work(code):\n    barrier.wait()\n    exec(code, {})\n"
            "threads = [threading.Thread(target=work, args=(code,)) for code in codes]\n"
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        )
        result = installed.run("python", "-c", code, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.returncode, result.stderr) == (0, "")
        assert {record.provider for record in installed.records()} == {"openai", "anthropic"}


class TestTheProgramsOwnSettings:
    """A program that speaks to the library itself has the last word."""

    @pytest.mark.parametrize("order", ["{toll}{call}", "import openai\n{toll}{call}"])
    def test_its_patch_all_counts(self, order: str, installed: Environment, sim: Simulator) -> None:
        """What the program configures is not overridden by the activation, whichever comes first."""
        toll = "import llm_toll_autopatch\nllm_toll_autopatch.patch_all(project='own')\n"
        code = order.format(toll=toll, call=OPENAI)
        installed.run("python", "-c", code, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert [record.project for record in installed.records()] == ["own"]

    def test_its_unpatch_all_counts(self, installed: Environment, sim: Simulator) -> None:
        """A program that wants no metering has none."""
        code = "import llm_toll_autopatch\nllm_toll_autopatch.unpatch_all()\n" + OPENAI
        result = installed.run("python", "-c", code, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.returncode, installed.records()) == (0, [])

    def test_patched_ends(self, installed: Environment, sim: Simulator) -> None:
        """After a `patched()` block, with which a test may begin, the activation counts again."""
        code = f"""
from llm_toll_autopatch import patched
CODE = {OPENAI!r}
with patched() as memory:
    exec(CODE)
exec(CODE)
print(len(memory.records))
"""
        result = installed.run("python", "-c", code, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.stdout, len(installed.records())) == ("1\n", 1)

    def test_status_knows_of_it(self, installed: Environment) -> None:
        """`status()` says that calls will be metered, also before an SDK is imported."""
        code = "import llm_toll_autopatch; print(llm_toll_autopatch.status().active)"
        assert installed.run("python", "-c", code, LLM_TOLL_AUTOPATCH="1").stdout == "True\n"
        assert installed.run("python", "-c", code).stdout == "False\n"


PROGRAM = OPENAI + "print('runs'); raise SystemExit(3)"


class TestNothingStopsAProgram:
    """Whatever is broken on our side: the program runs, its exit code is its own, and stderr has a line at most."""

    @pytest.mark.parametrize(
        ("variables", "said"),
        [
            ({"HOME": "/proc/nowhere", "XDG_DATA_HOME": ""}, "failures of its own"),
            ({"XDG_DATA_HOME": "{garbage}"}, "failures of its own"),
            ({"LLM_TOLL_AUTOPATCH_SINK": "nosuch"}, "is off: ValueError: LLM_TOLL_AUTOPATCH_SINK"),
            ({"LLM_TOLL_AUTOPATCH_PROJCT": "x"}, "is off: ValueError: LLM_TOLL_AUTOPATCH_PROJCT"),
        ],
        ids=["broken home", "broken ledger", "bad setting", "unknown variable"],
    )
    def test_broken_surroundings(
        self, variables: dict[str, str], said: str, installed: Environment, sim: Simulator, tmp_path: Path
    ) -> None:
        """No home to write to, a ledger that is none, settings that make no sense."""
        garbage = tmp_path / "llm_toll_autopatch" / "ledger.db"
        garbage.parent.mkdir()
        garbage.write_bytes(b"this is no database. " * 500)
        variables = {name: value.format(garbage=tmp_path) for name, value in variables.items()}
        variables = {"LLM_TOLL_AUTOPATCH": "1", **sim.environment(), **variables}
        result = installed.run("python", "-c", PROGRAM, **variables)
        assert (result.returncode, result.stdout) == (3, "runs\n")
        (line,) = result.stderr.splitlines()
        assert said in line
        assert garbage.read_bytes() == b"this is no database. " * 500

    @pytest.mark.parametrize(
        ("wrapt", "said"),
        [
            ("raise ModuleNotFoundError(\"No module named 'wrapt'\")", "ModuleNotFoundError: No module named 'wrapt'"),
            ("raise SystemExit(9)", "SystemExit: 9"),
            ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ],
    )
    def test_a_broken_dependency(self, wrapt: str, said: str, own: Environment, sim: Simulator) -> None:
        """A missing wrapt, or one that does anything at all, is one line."""
        (own.site / "wrapt.py").write_text(wrapt)
        result = own.run("python", "-c", PROGRAM, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.returncode, result.stdout) == (3, "runs\n")
        assert result.stderr == f"llm_toll_autopatch is off: {said}\n"

    def test_finders_of_others(self, installed: Environment, sim: Simulator) -> None:
        """Finders of the old kind, and ones that find the SDK themselves, work as without us."""
        code = (
            "import sys\nfrom importlib.machinery import PathFinder\n"
            "class Old:\n    def find_module(self, name, path=None):\n        return None\n"
            "class Own:\n    seen = []\n    def find_spec(self, name, path=None, target=None):\n"
            "        self.seen.append(name)\n        return PathFinder.find_spec(name, path)\n"
            "sys.meta_path.insert(0, Old())\nsys.meta_path.insert(2, Old())\nsys.meta_path.insert(3, Own())\n"
        )
        result = installed.run(
            "python", "-c", code + OPENAI + "print('openai' in Own.seen)", LLM_TOLL_AUTOPATCH="1", **sim.environment()
        )
        assert (result.stdout, result.stderr, len(installed.records())) == ("True\n", "", 1)

    def test_no_stderr(self, installed: Environment) -> None:
        """A program without a stderr, to which nothing can be said, runs too."""
        variables = installed.variables(LLM_TOLL_AUTOPATCH="1", LLM_TOLL_AUTOPATCH_SINK="nosuch")
        result = subprocess.run(
            ["sh", "-c", '"$0" -c "import openai; print(1)" 2>&-', installed.python], env=variables,
            stdout=subprocess.PIPE, check=False,
        )  # fmt: skip
        assert (result.returncode, result.stdout) == (0, b"1\n")


class TestTheWheel:
    """What is installed, and what is left behind."""

    def test_the_start_files_are_beside_the_package(self, wheel: Path) -> None:
        """They are what `disable` writes, and at the top of the wheel, where Python looks."""
        with zipfile.ZipFile(wheel) as archive:
            shipped = {name: archive.read(name).decode() for name in archive.namelist() if "/" not in name}
        assert shipped == activation.SHIPPED

    def test_what_the_start_files_name_exists(self) -> None:
        """PEP 829's files name callables, as shipped and as `autotoll enable` writes them."""
        shipped = activation.SHIPPED["llm_toll_autopatch.start"]
        enabled = activation.ENABLED["llm_toll_autopatch.start"]
        assert pkgutil.resolve_name(shipped.strip()) is _boot.main
        assert pkgutil.resolve_name(enabled.strip()) is _boot.always

    def test_the_sdist_makes_the_same_wheel(self, wheel: Path, tmp_path: Path) -> None:
        """Who builds from the source distribution gets the start files too."""
        source = build(tmp_path, "sdist")
        with tarfile.open(source) as archive:
            archive.extractall(tmp_path, filter="data")
        again = build(tmp_path / "again", root=tmp_path / source.name.removesuffix(".tar.gz"))
        with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
            assert set(one.namelist()) == set(other.namelist())

    @pytest.mark.parametrize("enable", [False, True])
    def test_uninstalling_leaves_nothing(self, enable: bool, tmp_path: Path, wheel: Path) -> None:
        """After `pip uninstall` the environment holds what it did before, also when it was enabled."""
        environment = Environment(tmp_path / "venv", None)
        before = environment.names()
        environment.pip("install", "--no-deps", str(wheel))
        if enable:
            assert environment.run("autotoll", "enable").returncode == 0
        environment.pip("uninstall", "-y", "llm-toll-autopatch")
        assert environment.names() == before
        assert environment.run("python", "-c", "print(1)", LLM_TOLL_AUTOPATCH="1").stderr == ""

    def test_an_editable_install_has_them_too(self, tmp_path: Path, sim: Simulator) -> None:
        """Who works on the library can activate his copy."""
        environment = Environment(tmp_path / "venv", None)
        environment.pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
        result = environment.run("python", "-c", OPENAI, LLM_TOLL_AUTOPATCH="1", **sim.environment())
        assert (result.stderr, len(environment.records())) == ("", 1)

    def test_what_wakes_it(self) -> None:
        """The packages that are watched at start are those of the SDKs' table."""
        assert set(_boot.PACKAGES) == {sdk.package for sdk in SDKS.values()}


class TestEnable:
    """`autotoll enable` and `autotoll disable` manage it for an environment."""

    def test_there_and_back(self, own: Environment, sim: Simulator) -> None:
        """Enabled, a program is metered without a variable, which can still say no; disabled, all is as it was."""
        files = {name: own.site / name for name in activation.SHIPPED}
        result = own.run("autotoll", "enable")
        assert result.returncode == 0
        assert [line for line in result.stdout.splitlines() if line.startswith("changed")] == [
            f"changed {path}" for path in files.values()
        ]
        own.run("python", "-c", OPENAI, LLM_TOLL_AUTOPATCH="0", **sim.environment())
        assert own.records() == []
        result = own.run("python", "-c", OPENAI, **sim.environment())
        assert (result.stderr, len(own.records())) == ("", 1)
        assert own.run("autotoll", "enable").stdout.startswith("nothing to change")
        assert own.run("autotoll", "disable").returncode == 0
        assert {name: path.read_text() for name, path in files.items()} == activation.SHIPPED
        own.run("python", "-c", OPENAI, **sim.environment())
        assert len(own.records()) == 1

    def test_a_file_that_is_linked_elsewhere_stays(self, own: Environment, tmp_path: Path) -> None:
        """Installers link files to their cache, which other environments share: the file is replaced, not written."""
        cached = tmp_path / "cached.pth"
        cached.hardlink_to(own.site / "llm_toll_autopatch.pth")
        own.run("autotoll", "enable")
        assert cached.read_text() == activation.SHIPPED["llm_toll_autopatch.pth"]
        assert (own.site / "llm_toll_autopatch.pth").stat().st_mode & 0o777 == 0o644

    def test_where_it_is_not_installed(self, tmp_path: Path) -> None:
        """An environment that has us on its path only cannot be enabled, and is told what to do."""
        environment = Environment(tmp_path / "venv", None)
        result = environment.run("python", "-m", "llm_toll_autopatch", "enable", PYTHONPATH=str(ROOT))
        assert result.returncode == 1
        assert "autotoll run" in result.stderr

    def test_inspect(self, own: Environment) -> None:
        """`inspect` tells what is in place, in words too."""
        code = "from llm_toll_autopatch.activation import inspect; a = inspect(); print(a.on, a.enabled, a.pending, a)"
        look = ("python", "-c", code)
        off = "activation without code: off"
        assert own.run(*look).stdout.startswith(f"False False False {off}")
        assert own.run(*look, LLM_TOLL_AUTOPATCH="1").stdout.startswith("True False True activation without code: on")
        assert own.run("autotoll", "run", *look).stdout.startswith("True False True activation without code: on")
        own.run("autotoll", "enable")
        assert own.run(*look).stdout.startswith("True True True activation without code: on (enabled in ")
        assert own.run(*look, LLM_TOLL_AUTOPATCH="0").stdout.startswith(f"False True False {off}")


SHOW = "import sys, json; print(json.dumps(sys.argv[1:]))\n"


class TestRun:
    """`autotoll run` activates a program and its children, and is otherwise not there."""

    def test_a_script(self, installed: Environment, sim: Simulator, tmp_path: Path) -> None:
        """The script has its own arguments, and its calls the project and the tags of the command line."""
        program = write(tmp_path, SHOW + OPENAI)
        options = ["--project", "nightly", "--tag", "team=search", "--tag", "note=a, b=c"]
        arguments = ["--project", "mine", "-m", "--", "x y", "report"]
        result = installed.run("autotoll", "run", *options, program, *arguments, **sim.environment())
        assert (result.returncode, result.stderr) == (0, "")
        assert json.loads(result.stdout) == arguments
        (record,) = installed.records()
        assert (record.project, dict(record.tags)) == ("nightly", {"team": "search", "note": "a, b=c"})

    def test_a_module(self, installed: Environment, sim: Simulator, tmp_path: Path) -> None:
        """`-m` takes a module and everything behind it."""
        write(tmp_path, SHOW + OPENAI, "my_module.py")
        result = installed.run(
            "autotoll", "run", "-m", "my_module", "-q", "--tag", "x", cwd=tmp_path, **sim.environment()
        )
        assert json.loads(result.stdout) == ["-q", "--tag", "x"]
        assert len(installed.records()) == 1

    def test_a_program_and_its_children(self, installed: Environment, sim: Simulator, tmp_path: Path) -> None:
        """Any program can be run: what counts is that a Python starts below it."""
        program = write(tmp_path, OPENAI)
        result = installed.run("autotoll", "run", "sh", "-c", f"python {program} && python -I {program}",
                               PATH=f"{installed.bin}:/usr/bin:/bin", **sim.environment())  # fmt: skip
        assert (result.returncode, result.stderr, len(installed.records())) == (0, "", 2)

    def test_a_console_script_of_another_environment(
        self, installed: Environment, sim: Simulator, tmp_path: Path
    ) -> None:
        """pytest, in an environment without a start file of ours, is metered by the `sitecustomize` on its path."""
        # The environment of the tests may have another version of us.
        variables = {"PYTHONPATH": str(ROOT), **sim.environment()}
        write(tmp_path, f"def test_it():\n    exec({OPENAI!r})\n", "test_it.py")
        pytest_script = Path(sys.executable).parent / "pytest"
        command = ("autotoll", "run", pytest_script, "-q", "-p", "no:cacheprovider", tmp_path)
        result = installed.run(*command, cwd=tmp_path, **variables)
        assert result.returncode == 0, result.stdout
        assert len(installed.records()) == 1

    def test_an_interpreter_without_us(self, installed: Environment, sim: Simulator, tmp_path: Path) -> None:
        """The installation that runs it is lent to an interpreter that has none; nothing else of it is."""
        bare = Environment(tmp_path / "venv", None)
        bare.lose("llm_toll", "wrapt", "genai_prices", "platformdirs")
        (installed.site / "only_ours.py").write_text("")
        code = OPENAI + "import llm_toll_autopatch; print(llm_toll_autopatch.__file__)\nimport only_ours"
        result = installed.run("autotoll", "run", bare.python, "-c", code, **sim.environment())
        assert result.stdout.strip() == str(installed.site / "llm_toll_autopatch" / "__init__.py")
        assert result.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'only_ours'"
        (record,) = installed.records()
        assert record.cost_usd

    def test_the_users_sitecustomize_runs(self, installed: Environment, tmp_path: Path) -> None:
        """The one that ours hides runs, is the one that the program sees, and ours is not on the path any more."""
        write(tmp_path, "mark = 'mine'", "sitecustomize.py")
        code = "import sitecustomize, sys; print(sitecustomize.mark, [p for p in sys.path if p.endswith('_site')])"
        command = ("autotoll", "run", "autotoll", "run", installed.python, "-c", code)
        result = installed.run(*command, PYTHONPATH=str(tmp_path), PATH=f"{installed.bin}:/usr/bin:/bin")
        assert (result.stdout, result.stderr) == ("mine []\n", "")

    @pytest.mark.parametrize("code", [0, 1, 2, 77])
    def test_exit_codes(self, code: int, installed: Environment) -> None:
        """The exit code is the program's."""
        result = installed.run("autotoll", "run", installed.python, "-c", f"raise SystemExit({code})")
        assert (result.returncode, result.stderr) == (code, "")

    def test_signals(self, installed: Environment) -> None:
        """A signal reaches the program, whose answer or death is seen from outside."""
        code = (
            "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(9));"
            "print('ready', flush=True); time.sleep(30)"
        )
        for stop, expected in ((signal.SIGTERM, 9), (signal.SIGKILL, -signal.SIGKILL)):
            command = [str(installed.bin / "autotoll"), "run", str(installed.python), "-c", code]
            with subprocess.Popen(command, env=installed.variables(), stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                process.send_signal(stop)
                assert process.wait(20) == expected

    def test_stdin_is_the_programs(self, installed: Environment) -> None:
        """What is piped in reaches the program."""
        command = [str(installed.bin / "autotoll"), "run", str(installed.python), "-c", "print(input())"]
        result = subprocess.run(command, env=installed.variables(), input=b"hello\n", capture_output=True, check=True)
        assert result.stdout == b"hello\n"

    def test_variables(self, installed: Environment) -> None:
        """The flags of budgets and sinks are variables, which every process below reads; what is not given is not set."""
        code = "import os, json; print(json.dumps({k[19:]: v for k, v in os.environ.items() if k[:19] == 'LLM_TOLL_AUTOPATCH_'}))"
        flags = ["--max-budget", "2.50", "--reset", "daily", "--strict", "--sink", "ledger", "--sink", "log"]
        result = installed.run("autotoll", "run", *flags, installed.python, "-c", code)
        found = json.loads(result.stdout)
        del found["LENDER"]
        assert found == {"MAX_BUDGET": "2.50", "RESET": "daily", "STRICT_BUDGET": "true", "SINK": '["ledger", "log"]'}
        result = installed.run("autotoll", "run", installed.python, "-c", code)
        assert list(json.loads(result.stdout)) == ["LENDER"]

    def test_a_budget_holds_for_all_processes(self, installed: Environment, sim: Simulator) -> None:
        """`--max-budget` is the project's, whichever process spends it: the call after it is used up is not sent."""
        command = [sys.executable, "-c", OPENAI]  # one of another environment
        code = (
            "import subprocess\n"
            f"for _ in range(3): print(b'BudgetExceeded' in subprocess.run({command}, stderr=subprocess.PIPE).stderr)"
        )
        flags = ("--max-budget", "0.00003", "--project", "small")
        variables = {"PYTHONPATH": str(ROOT), **sim.environment()}
        result = installed.run("autotoll", "run", *flags, installed.python, "-c", code, **variables)
        assert (result.returncode, result.stdout, result.stderr) == (0, "False\nFalse\nTrue\n", "")
        assert len(sim.requests) == len(installed.records()) == 2

    @pytest.mark.parametrize(
        ("flags", "sink"),
        [
            (["--console"], '["console", "ledger"]'),
            (["--console", "--sink", "log"], '["console", "log"]'),
            (["--console", "--sink", "console"], "console"),
            (["--sink", "log"], "log"),
        ],
    )
    def test_the_console_is_added(
        self, flags: list[str], sink: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """`--console` shows calls beside keeping them where they would go without it."""
        monkeypatch.chdir(tmp_path)
        parser = argparse.ArgumentParser()
        run.configure(parser)
        assert run.environment(parser.parse_args([*flags, "program"]))["LLM_TOLL_AUTOPATCH_SINK"] == sink
        (tmp_path / "pyproject.toml").write_text('[tool.llm_toll_autopatch]\nsink = ["jsonl:a.jsonl", "log"]')
        configured = json.dumps(["console", f"jsonl:{tmp_path}/a.jsonl", "log"])
        found = run.environment(parser.parse_args(["--console", "program"]))
        assert found["LLM_TOLL_AUTOPATCH_SINK"] == configured

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            ([], 2, "nothing to run"),
            (["--"], 2, "nothing to run"),
            (["-m"], 2, "-m needs a module"),
            (["--tag", "x", "prog"], 2, "takes KEY=VALUE such as team=search, not 'x'"),
            (["--sink", "nosuch", "true"], 2, "error: --sink: sink= names the unknown sink 'nosuch'"),
            (["--max-budget", "much", "true"], 2, "error: --max-budget: "),
            (["--reset", "hourly", "true"], 2, "error: --reset: "),
            (["nosuch-program"], 127, "autotoll: nosuch-program: no such program"),
            (["./text.txt"], 126, "autotoll: ./text.txt: not executable"),
        ],
    )
    def test_mistakes(self, arguments: list[str], code: int, said: str, installed: Environment, tmp_path: Path) -> None:
        """A mistake is found before the program starts, with the exit codes of a shell."""
        write(tmp_path, "", "text.txt")
        result = installed.run("autotoll", "run", *arguments, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (code, "")
        assert said in result.stderr
