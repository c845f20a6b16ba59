"""Putting the wrappers on and taking them off, in this process and in fresh ones."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import wrapt
from google.genai import chats, models
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.responses import AsyncResponses, Responses
from sources import GPT, MESSAGES, clients_of

import llm_toll_autopatch
from llm_toll_autopatch import MemorySink, flush, patch_all, patched, status, unpatch_all
from llm_toll_autopatch.failures import failures
from llm_toll_autopatch.providers import openai as provider
from llm_toll_autopatch.sdks import SDKS
from llm_toll_autopatch.simulator import Simulator

PATCHED: tuple[tuple[type, str], ...] = (
    (Completions, "create"),
    (AsyncCompletions, "create"),
    (Responses, "create"),
    (AsyncResponses, "create"),
    (anthropic.resources.messages.Messages, "create"),
    (anthropic.resources.messages.Messages, "stream"),
    (anthropic.resources.messages.AsyncMessages, "create"),
    (anthropic.resources.messages.AsyncMessages, "stream"),
    (models.Models, "_generate_content"),
    (models.Models, "_generate_content_stream"),
    (models.Models, "generate_content_stream"),
    (models.AsyncModels, "_generate_content"),
    (models.AsyncModels, "_generate_content_stream"),
    (models.AsyncModels, "generate_content_stream"),
    (chats.Chat, "send_message_stream"),
    (chats.AsyncChat, "send_message_stream"),
)


def slots() -> list[Any]:
    """The objects that the classes hold, not what attribute access makes of them."""
    return [vars(owner)[name] for owner, name in PATCHED]


def ask(sim: Simulator) -> None:
    """Send one plain request."""
    with clients_of(sim) as clients:
        clients.openai.chat.completions.create(model=GPT, messages=MESSAGES)


def test_unpatching_leaves_the_very_objects() -> None:
    """After unpatch_all every class attribute is the object that it was, and none of it is ours in between."""
    before = slots()
    patch_all(sink="memory")
    assert all(new is not old for new, old in zip(slots(), before, strict=True))
    unpatch_all()
    assert all(new is old for new, old in zip(slots(), before, strict=True))


def test_a_second_patch_all_reconfigures(sim: Simulator) -> None:
    """patch_all twice is one wrapper, with the configuration of the second call."""
    first, second = MemorySink(), MemorySink()
    patch_all(sink=first, project="one")
    wrappers = slots()
    patch_all(sink=second, project="two", tags={"team": "search"})
    assert slots() == wrappers
    ask(sim)
    assert not first.records
    (record,) = second.records
    assert (record.project, dict(record.tags)) == ("two", {"team": "search"})


def test_nested_blocks_restore(sim: Simulator) -> None:
    """Inside patched() the inner configuration replaces the outer one, which is back afterwards."""
    before = slots()
    with patched(project="outer") as outer:
        ask(sim)
        with patched(project="inner") as inner:
            ask(sim)
        ask(sim)
    assert isinstance(outer, MemorySink)
    assert isinstance(inner, MemorySink)
    assert [record.project for record in outer] == ["outer", "outer"]
    assert [record.project for record in inner] == ["inner"]
    assert slots() == before
    ask(sim)
    assert len(outer) + len(inner) == 3


def test_a_block_restores_after_an_exception() -> None:
    """An exception out of a patched() block leaves nothing patched."""
    before = slots()
    with pytest.raises(KeyError), patched():
        raise KeyError
    assert slots() == before


def test_bound_methods_captured_while_patched_go_quiet(sim: Simulator) -> None:
    """A bound method that was captured while patched meters no more after unpatch_all."""
    with clients_of(sim) as clients:
        with patched() as sink:
            create = clients.openai.chat.completions.create
            create(model=GPT, messages=MESSAGES)
        create(model=GPT, messages=MESSAGES)
    assert isinstance(sink, MemorySink)
    assert len(sink) == 1


def test_only_the_chosen_providers_are_patched() -> None:
    """providers= leaves the other SDKs alone, also when an earlier call had patched them."""
    before = slots()
    patch_all(sink="memory")
    patch_all(sink="memory", providers=["anthropic"])
    changed = {owner.__module__.partition(".")[0] for (owner, name), old in zip(PATCHED, before, strict=True)
               if vars(owner)[name] is not old}  # fmt: skip
    assert changed == {"anthropic"}
    assert list(status().providers) == ["anthropic"]


@pytest.mark.parametrize("order", ["foreign above", "foreign below"])
def test_wrapt_wrappers_of_others_stay(order: str, sim: Simulator) -> None:
    """A wrapper that another tool puts on with wrapt, above or below ours, survives and keeps working."""
    seen: list[str] = []

    def foreign(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append("foreign")
        return wrapped(*args, **kwargs)

    original = vars(Completions)["create"]
    if order == "foreign below":
        handle = wrapt.wrap_function_wrapper(Completions, "create", foreign)
        patch_all(sink="memory")
    else:
        patch_all(sink="memory")
        handle = wrapt.wrap_function_wrapper(Completions, "create", foreign)
    assert __name__ in status().providers["openai"].foreign
    unpatch_all()
    assert vars(Completions)["create"] is handle
    ask(sim)
    assert seen == ["foreign"]
    wrapt.unwrap_object(Completions, "create", handle)
    assert vars(Completions)["create"] is original


def test_a_closure_above_ours_keeps_it_quiet_and_is_not_wrapped_twice(sim: Simulator) -> None:
    """Where another tool's closure holds our wrapper, it goes quiet when unpatched and is used again when patched."""
    original = vars(Completions)["create"]
    patch_all(sink="memory")
    inner = Completions.create

    @functools.wraps(inner)
    def closure(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    Completions.create = closure
    try:
        assert __name__ in status().providers["openai"].foreign
        unpatch_all()
        assert vars(Completions)["create"] is closure
        with patched() as sink:
            assert vars(Completions)["create"] is closure
            ask(sim)
        ask(sim)
        assert isinstance(sink, MemorySink)
        assert len(sink) == 1
    finally:
        Completions.create = original
        unpatch_all()


def test_signatures_and_errors_of_methods_stay() -> None:
    """A patched method looks like the bare one, and complains about missing arguments in the same words."""
    bare = [inspect.signature(getattr(owner, name)) for owner, name in PATCHED]
    client = openai.OpenAI(api_key="sim", base_url="http://127.0.0.1:9")
    with pytest.raises(TypeError) as bare_error:
        client.chat.completions.create()
    with patched():
        assert [inspect.signature(getattr(owner, name)) for owner, name in PATCHED] == bare
        with pytest.raises(TypeError) as error:
            client.chat.completions.create()
    client.close()
    assert str(error.value) == str(bare_error.value)


def test_status_names_what_is_patched_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that the SDK no longer has is a line in status(), not an error, and the others are patched."""
    monkeypatch.delattr(AsyncCompletions, "create")
    patch_all(sink="memory")
    now = status()
    assert now.active
    sdk = now.providers["openai"]
    assert sdk.version == openai.__version__
    # Even though the class of that name for legacy completions has it.
    assert "AsyncCompletions.create (chat.completions.create)" in sdk.missing
    assert "Completions.create (chat.completions.create)" in sdk.patched
    assert sdk.late
    assert "methods taken from its objects by then are not metered" in str(now)
    assert "missing, not metered: AsyncCompletions.create" in str(now)
    unpatch_all()


def test_a_module_that_moved_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method whose module the SDK no longer has is a line in status(); a module that is not imported yet is not."""
    targets = tuple(replace(target, module=f"{target.module}.moved") for target in provider.PROVIDER.targets[:1])
    later = replace(provider.PROVIDER.targets[1], module="openai.helpers.microphone", path="Later.create")
    monkeypatch.setattr(provider, "PROVIDER", replace(provider.PROVIDER, targets=(*targets, later)))
    assert later.module not in sys.modules
    patch_all(sink="memory")
    assert status().providers["openai"].missing == ("Completions.create (chat.completions.create)",)


def test_status_prints_itself() -> None:
    """status() says in words what is on, where records go and what each SDK's state is."""
    assert "metering   off" in str(status())
    patch_all(sink="memory")
    text = str(status())
    assert "metering   on" in text
    assert "also wrapped by" not in text
    for name in SDKS:
        assert f"{name:<10} " in text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sink": "nonsense"}, ValueError, "nonsense"),
        ({"sink": 3}, TypeError, "sink="),
        ({"project": ""}, TypeError, "project="),
        ({"tags": {"a": 1}}, TypeError, "tags="),
        ({"close_on_break": "yes"}, TypeError, "close_on_break="),
        ({"providers": ["mistral"]}, ValueError, "openai, anthropic, google"),
        ({"providers": "openai"}, TypeError, "providers="),
        ({"prices": {"m": {"input": -1, "output": 1}}}, ValueError, "prices="),
    ],
)
def test_bad_arguments_are_refused_at_once(options: Any, error: type[Exception], words: str) -> None:
    """A bad argument of patch_all raises an error that names it, and changes nothing."""
    before = slots()
    with pytest.raises(error, match=words):
        patch_all(**options)
    assert slots() == before
    assert not status().active


def test_patching_from_many_threads(sim: Simulator) -> None:
    """Threads that patch and unpatch at the same time leave the originals behind."""
    before = slots()

    def toggle() -> None:
        for _ in range(20):
            patch_all(sink="memory")
            unpatch_all()

    threads = [threading.Thread(target=toggle) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    unpatch_all()
    assert slots() == before


def run(program: str, **environment: str) -> str:
    """Run `program` in a fresh interpreter under -W error and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Importing the package pulls in no SDK, no wrapt and no sqlite3."""
    printed = run("""
        import sys
        before = set(sys.modules)
        import llm_toll_autopatch
        loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(loaded))
    """)
    assert printed == "['llm_toll_autopatch']\n"


def test_patching_imports_no_sdk() -> None:
    """patch_all itself imports no SDK and not wrapt."""
    printed = run("""
        import sys
        import llm_toll_autopatch
        llm_toll_autopatch.patch_all(sink="memory")
        print([name for name in ("openai", "anthropic", "google.genai", "wrapt", "genai_prices") if name in sys.modules])
    """)
    assert printed == "[]\n"


@pytest.mark.parametrize("first", ["SDK", "patch"])
def test_an_sdk_may_be_imported_before_or_after(first: str, sim: Simulator) -> None:
    """Calls are metered whether the SDK is imported before or after patch_all; modules keep their loaders."""
    lines = ["import openai, anthropic, google.genai", "llm_toll_autopatch.patch_all(sink=sink)"]
    if first == "patch":
        lines.reverse()
    printed = run(
        "import llm_toll_autopatch\nsink = llm_toll_autopatch.MemorySink()\n"
        + "\n".join(lines)
        + textwrap.dedent("""
            with openai.OpenAI() as client:
                client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])
                client.responses.create(model="gpt-5-mini", input="hi")
            with anthropic.Anthropic() as client:
                client.messages.create(
                    model="claude-sonnet-5-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
                )
            with google.genai.Client() as client:
                client.models.generate_content(model="gemini-3.8-flash", contents="hi")
            print(sorted(record.method for record in sink))
            print({type(sys.modules[name].__spec__.loader).__name__ for name in
                   ("openai", "anthropic", "google.genai", "google.genai.models")})
            newest = {"openai": 3, "anthropic": 2, "google": 3}
            print({name: sdk.missing for name, sdk in llm_toll_autopatch.status().providers.items()
                   if sdk.missing and int(sdk.version.partition(".")[0]) >= newest[name]})
        """).replace("print({type", "import sys\nprint({type"),
        **sim.environment(),
    )
    assert printed.splitlines() == [
        "['chat.completions.create', 'messages.create', 'models.generate_content', 'responses.create']",
        "{'SourceFileLoader'}",
        "{}",
    ]


def test_no_thread_of_ours_imports_what_an_sdk_looks_for(tmp_path: Path) -> None:
    """The HTTP library that genai-prices needs is there, whole, when the import of an SDK that has none ends."""
    package = tmp_path / "openai"
    package.mkdir()
    (package / "__init__.py").write_text("")
    printed = run(
        """
        import sys
        import llm_toll_autopatch
        llm_toll_autopatch.patch_all(sink="memory", providers=["openai"])
        assert "httpx2" not in sys.modules
        import openai
        print(sys.modules["httpx2"].__spec__._initializing)
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert printed == "False\n"


def test_a_missing_sdk_is_a_line_in_status() -> None:
    """Without an SDK installed patch_all works and status() says so."""
    printed = run("""
        import importlib.metadata as metadata
        version = metadata.version
        def without(name):
            if name == "anthropic":
                raise metadata.PackageNotFoundError(name)
            return version(name)
        metadata.version = without
        import llm_toll_autopatch
        print(llm_toll_autopatch.patch_all(sink="memory"))
    """)
    assert "anthropic  not installed" in printed


def test_flush_returns_when_nothing_waits() -> None:
    """flush() is a no-op when nothing is patched and when nothing waits."""
    flush()
    patch_all(sink="memory")
    flush(0.1)
    assert failures.total == 0
    assert llm_toll_autopatch.status().queued == 0
