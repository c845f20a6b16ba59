"""An ordinary script that talks to three providers. Only its first two lines know that somebody counts."""

import llm_toll_autopatch

llm_toll_autopatch.patch_all(project="chat-example")

# From here on: nothing but the three SDKs, as their own documentation uses them.
import asyncio  # noqa: E402

import anthropic  # noqa: E402
import openai  # noqa: E402
from google import genai  # noqa: E402

QUESTION = "Why does a stream of water get thinner as it falls?"
GPT, CLAUDE, GEMINI = "gpt-5-mini", "claude-sonnet-5-5", "gemini-3.8-flash"


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n\n--- {text}\n")


def plain() -> None:
    """Ask each provider once, and wait for the whole answer."""
    title(f"{GPT}, plain")
    completion = openai.OpenAI().chat.completions.create(model=GPT, messages=[{"role": "user", "content": QUESTION}])
    print(completion.choices[0].message.content)

    title(f"{CLAUDE}, plain")
    message = anthropic.Anthropic().messages.create(
        model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
    )
    print("".join(block.text for block in message.content if block.type == "text"))

    title(f"{GEMINI}, plain")
    with genai.Client() as client:
        print(client.models.generate_content(model=GEMINI, contents=QUESTION).text)


def streamed() -> None:
    """Print each provider's answer as it comes."""
    title(f"{GPT}, streamed by the Responses API")
    for event in openai.OpenAI().responses.create(model=GPT, input=QUESTION, stream=True):
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)

    title(f"{CLAUDE}, streamed by the messages.stream() helper")
    with anthropic.Anthropic().messages.stream(
        model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)

    title(f"{GEMINI}, streamed in a chat")
    with genai.Client() as client:
        for chunk in client.chats.create(model=GEMINI).send_message_stream(QUESTION):
            print(chunk.text or "", end="", flush=True)


def broken_off() -> None:
    """Read three pieces of a stream, then lose interest: what came so far is still billed, and so it is counted."""
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


async def side_by_side() -> None:
    """Ask all three at once."""
    title("all three at once, async")

    async def gpt() -> str:
        async with openai.AsyncOpenAI() as client:
            answer = await client.responses.create(model=GPT, input=QUESTION)
            return str(answer.output_text)

    async def claude() -> str:
        async with (
            anthropic.AsyncAnthropic() as client,
            client.messages.stream(
                model=CLAUDE, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
            ) as stream,
        ):
            return str(await stream.get_final_text())

    async def gemini() -> str:
        async with genai.Client().aio as client:
            chunks = await client.models.generate_content_stream(model=GEMINI, contents=QUESTION)
            return "".join([chunk.text or "" async for chunk in chunks])

    for name, answer in zip((GPT, CLAUDE, GEMINI), await asyncio.gather(gpt(), claude(), gemini()), strict=True):
        print(f"{name}: {answer[:70]}…")


if __name__ == "__main__":
    plain()
    streamed()
    broken_off()
    asyncio.run(side_by_side())
    print("\n")
