"""An ordinary script that talks to three providers, or to those whose SDKs are installed. `autotoll demo` runs it.

Only the first line of `main` knows that somebody counts; all else is the SDKs, as their own documentation uses them.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec

import llm_toll_autopatch

__all__ = ["main"]

QUESTION = "Why does a stream of water get thinner as it falls?"
GPT, CLAUDE, GEMINI = "gpt-5-mini", "claude-sonnet-5-5", "gemini-3.8-flash"


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n\n--- {text}\n")


def ask_openai() -> None:
    """Ask and wait, ask and print the answer as it comes, and lose interest in an answer."""
    import openai

    title(f"{GPT}, plain")
    completion = openai.OpenAI().chat.completions.create(model=GPT, messages=[{"role": "user", "content": QUESTION}])
    print(completion.choices[0].message.content)

    title(f"{GPT}, streamed by the Responses API")
    for event in openai.OpenAI().responses.create(model=GPT, input=QUESTION, stream=True):
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)

    # What came until then is still billed, and so it is counted.
    title(f"{GPT}, broken off")
    stream = openai.OpenAI().chat.completions.create(
        model=GPT, messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    for number, chunk in enumerate(stream):
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        if number == 3:  # noqa: PLR2004
            print(" … that will do.", flush=True)
            break


def ask_anthropic() -> None:
    """Ask and wait, and ask and print the answer as it comes."""
    import anthropic

    title(f"{CLAUDE}, plain")
    message = anthropic.Anthropic().messages.create(
        model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
    )
    print("".join(block.text for block in message.content if block.type == "text"))

    title(f"{CLAUDE}, streamed by the messages.stream() helper")
    with anthropic.Anthropic().messages.stream(
        model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)


def ask_google() -> None:
    """Ask and wait, and ask and print the answer as it comes."""
    from google import genai

    title(f"{GEMINI}, plain")
    with genai.Client() as client:
        print(client.models.generate_content(model=GEMINI, contents=QUESTION).text)

    title(f"{GEMINI}, streamed in a chat")
    with genai.Client() as client:
        for chunk in client.chats.create(model=GEMINI).send_message_stream(QUESTION):
            print(chunk.text or "", end="", flush=True)


async def gpt() -> str:
    """Ask OpenAI."""
    import openai

    async with openai.AsyncOpenAI() as client:
        answer = await client.responses.create(model=GPT, input=QUESTION)
        return str(answer.output_text)


async def claude() -> str:
    """Ask Anthropic, by a stream."""
    import anthropic

    async with (
        anthropic.AsyncAnthropic() as client,
        client.messages.stream(
            model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
        ) as stream,
    ):
        return str(await stream.get_final_text())


async def gemini() -> str:
    """Ask Google, by a stream."""
    from google import genai

    async with genai.Client().aio as client:
        chunks = await client.models.generate_content_stream(model=GEMINI, contents=QUESTION)
        return "".join([chunk.text or "" async for chunk in chunks])


ASKED = {
    "openai": (ask_openai, gpt, GPT),
    "anthropic": (ask_anthropic, claude, CLAUDE),
    "google.genai": (ask_google, gemini, GEMINI),
}
"""By the SDK's package: who asks, who asks side by side with the others, and which model."""


def installed(package: str) -> bool:
    """Return whether there is such a package."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


async def side_by_side(packages: list[str]) -> None:
    """Ask all at once."""
    title("all at once, async")
    answers = await asyncio.gather(*(ASKED[package][1]() for package in packages))
    for package, answer in zip(packages, answers, strict=True):
        print(f"{ASKED[package][2]}: {answer[:70]}…")


def main() -> None:
    """Ask by every SDK that is installed."""
    llm_toll_autopatch.patch_all(project="chat-example")

    packages = [package for package in ASKED if installed(package)]
    for package in packages:
        ASKED[package][0]()
    asyncio.run(side_by_side(packages))
    print("\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
